package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/suggest"
)

// envPrefix starts the environment variables that override the file:
// SAGEMAKER_EXECUTOR_REGION, SAGEMAKER_EXECUTOR_POLICY_MAX_RUNTIME, ...
const envPrefix = "SAGEMAKER_EXECUTOR_"

// Load reads the settings: defaults, then the file, then SAGEMAKER_EXECUTOR_*
// of environ, then overrides ("table.key=value"; lists are separated by
// commas). An empty path is DefaultFile. The error of a wrong key or value says
// where it was set and what is allowed.
func Load(path string, environ, overrides []string) (*Settings, error) {
	if path == "" {
		path = DefaultFile
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the settings (name the file with config --settings FILE): %w", err)
	}
	s := Default()
	s.File = path
	s.Sources = map[string]string{}
	if err := s.readFile(data); err != nil {
		return nil, err
	}
	if err := s.readEnv(environ); err != nil {
		return nil, err
	}
	for _, o := range overrides {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			return nil, fmt.Errorf("--set %q: write it as table.key=value", o)
		}
		if err := s.set(key, value, "--set"); err != nil {
			return nil, err
		}
	}
	s.regionFrom(environ)
	// Keys are joined with slashes; an empty part would be a name of its own in S3.
	if s.Prefix = strings.Trim(s.Prefix, "/"); s.Prefix == "" {
		s.Prefix = Default().Prefix
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// regionFrom takes the region from AWS's own variables, in the SDK's order,
// where the settings name none.
func (s *Settings) regionFrom(environ []string) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		for _, entry := range environ {
			if value, ok := strings.CutPrefix(entry, name+"="); ok && value != "" && s.Region == "" {
				s.Region = value
				s.Sources["region"] = "$" + name
			}
		}
	}
}

// LoadDefault reads DefaultFile and the environment: for a cleanup that comes
// without job_env.
func LoadDefault(environ []string) (*Settings, error) { return Load("", environ, nil) }

// Encode writes resolved settings for job_env.
func (s *Settings) Encode() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("settings: %v", err)) // a Settings holds nothing that JSON cannot
	}
	return string(text)
}

// Decode reads what Encode wrote.
func Decode(text string) (*Settings, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	s := new(Settings)
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("%s is not what the config stage wrote (is every stage the same version of sagemaker-executor?): %w", EnvSettings, err)
	}
	return s, nil
}

func (s *Settings) readFile(data []byte) error {
	lines := keyLines(data)
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(s)

	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		var errs []error
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			key := strings.Join(e.Key(), ".")
			errs = append(errs, fmt.Errorf("%s:%d: unknown key %s%s", s.File, line, key, suggest.Hint(key, Keys())))
		}
		return errors.Join(errs...)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		if key := strings.Join(wrong.Key(), "."); key != "" {
			return fmt.Errorf("%s:%d: %s: %s", s.File, line, key, strings.TrimPrefix(wrong.Error(), "toml: "))
		}
		return fmt.Errorf("%s:%d: %s", s.File, line, strings.TrimPrefix(wrong.Error(), "toml: "))
	case err != nil:
		return fmt.Errorf("%s: %w", s.File, err)
	}
	for key, line := range lines {
		s.Sources[key] = fmt.Sprintf("%s:%d", s.File, line)
	}
	return nil
}

// keyLines finds the line of each key (table.key) of a TOML document. A
// document that cannot be parsed has no keys: the decoder reports it.
func keyLines(data []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(data)
	table := ""
	for p.NextExpression() {
		node := p.Expression()
		var parts []string
		line := 0
		for it := node.Key(); it.Next(); {
			parts = append(parts, string(it.Node().Data))
			line = p.Shape(it.Node().Raw).Start.Line
		}
		key := strings.Join(parts, ".")
		switch {
		case node.Kind != unstable.KeyValue:
			table = key + "."
		default:
			lines[table+key] = line
		}
	}
	return lines
}

func (s *Settings) readEnv(environ []string) error {
	byName := map[string]string{}
	for _, key := range Keys() {
		byName[envName(key)] = key
	}
	values := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && name != EnvSettings && name != EnvDeadline {
			values[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		key, ok := byName[name]
		if !ok {
			return fmt.Errorf("unknown environment variable %s%s", name, suggest.Hint(name, slices.Collect(maps.Keys(byName))))
		}
		if err := s.set(key, values[name], "$"+name); err != nil {
			return err
		}
	}
	return nil
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
