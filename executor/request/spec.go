package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"gopkg.in/yaml.v3"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
)

// maxSpec is the largest spec: many times the largest request that AWS takes.
const maxSpec = 1 << 20

// checkSpecPath refuses paths that cannot name a file of the repository.
func checkSpecPath(v value) error {
	clean := path.Clean(v.text)
	if path.IsAbs(v.text) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsAny(v.text, "\r\n\x00") {
		return v.wrong("the path of a file from the top of the repository, or a file-type variable")
	}
	return nil
}

// readSpecFile reads a regular file of the project. Links that lead out of the
// project are not followed, and devices and pipes are not opened for reading.
func readSpecFile(project *os.Root, name string) ([]byte, error) {
	wrong := func(why string) error {
		return failure.Invalid("the variable SAGEMAKER_SPEC is %s: %s", shorten(name), why)
	}
	f, err := project.OpenFile(path.Clean(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, wrong("there is no such file in the repository")
	case err != nil:
		return nil, wrong("it cannot be opened inside the repository (" + reason(err) + ")")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, wrong("it is not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	switch {
	case err != nil:
		return nil, wrong("it cannot be read (" + reason(err) + ")")
	case len(data) > maxSpec:
		return nil, wrong("it is larger than 1 MiB")
	}
	return data, nil
}

// reason is the last part of a path error: the path is the user's and already named.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// readSpec decodes a spec into the request and refuses what is the executor's.
func (b *builder) readSpec(name string, data []byte) error {
	b.spec = "the spec " + name
	if strings.HasPrefix(name, "the ") {
		b.spec = name
	}
	tree, err := parseSpec(data)
	if err != nil {
		return failure.Invalid("%s is neither JSON nor YAML: %w", b.spec, err)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return failure.Invalid("%s is not a mapping of CreateTrainingJob's fields", b.spec)
	}
	d := decoder{paths: map[string]bool{}}
	if err := d.decode("", object, b.in); err != nil {
		return failure.Invalid("%s: %w", b.spec, err)
	}
	b.specPaths = d.paths
	return b.refuseOwned()
}

// parseSpec reads JSON, else YAML. Errors name lines and quote nothing.
func parseSpec(data []byte) (any, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if json.Valid(data) {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		var tree any
		err := dec.Decode(&tree)
		return tree, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var tree, more any
	if err := dec.Decode(&tree); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		return nil, withoutContent(err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it holds more than one document")
	}
	return tree, nil
}

var (
	yamlLine = lazyregexp.New(`line (\d+)`)
	// yamlReason are the texts of yaml.v3's scanner and parser, which are constant.
	yamlReason = lazyregexp.New(`^yaml: (?:line \d+: )?((?:did not find|could not find|found|mapping (?:keys|values) are|block sequence entries are|control characters are|document contains) [A-Za-z0-9 ,.:%!<>'{}\[\]_-]+)$`)
)

// withoutContent is a parser's error, line and reason, without what it quotes.
func withoutContent(err error) error {
	text, why := err.Error(), "it cannot be parsed"
	if m := yamlReason().FindStringSubmatch(text); m != nil {
		why = m[1]
	} else if strings.Contains(text, "already defined at line") {
		why = "a key stands there for the second time"
	} else if strings.Contains(text, "unknown anchor") {
		why = "an alias has no anchor"
	}
	if m := yamlLine().FindStringSubmatch(text); m != nil {
		return fmt.Errorf("line %s: %s", m[1], why)
	}
	return errors.New(why)
}

// owned are the fields that only the executor sets.
var owned = map[string]string{
	"TrainingJobName": "the executor names jobs",
	"AlgorithmSpecification.ContainerEntrypoint": "the executor starts the job's script: set SAGEMAKER_ENTRYPOINT for what must run before it",
	"AlgorithmSpecification.ContainerArguments":  "the executor starts the job's script",
	"AlgorithmSpecification.AlgorithmName":       "the script runs in a container image, not in a built-in algorithm",
}

func (b *builder) refuseOwned() error {
	for _, p := range sortedKeys(b.specPaths) {
		if why, ok := owned[p]; ok {
			return failure.Invalid("%s sets %s: leave it out, %s", b.spec, p, why)
		}
	}
	for _, t := range b.in.Tags {
		if t.Key != nil && strings.HasPrefix(strings.ToLower(*t.Key), "gitlab:") {
			return failure.Invalid("%s sets a tag that begins with gitlab:, which is the executor's: leave it out", b.spec)
		}
	}
	return nil
}

// fromSpec says whether the spec set a field.
func (b *builder) fromSpec(p string) bool {
	return b.specPaths[p] || strings.HasPrefix(p, "HyperParameters.") && b.specPaths["HyperParameters"]
}
