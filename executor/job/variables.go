package job

import (
	"os"
	"path"
	"slices"
	"strings"
)

// tempDirKey is the variable with the directory in which the runner's scripts
// write file-type variables.
const tempDirKey = "RUNNER_TEMP_PROJECT_DIR"

// envPrefix marks job variables in a driver's environment.
const envPrefix = "CUSTOM_ENV_"

// Variable is one job variable, as the server sent it.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // not expanded; of a file-type variable, the file's content
	Public bool   `json:"public"`
	File   bool   `json:"file"`
	Masked bool   `json:"masked"`
	Raw    bool   `json:"raw"` // never expanded
}

// Variables are the job's variables in ascending precedence: of two with one
// key, the later counts. All of them are the user's to forge.
type Variables []Variable

// WithRunner adds what the runner itself defines (CI_PROJECT_DIR,
// [[runners]].environment, ...) from a driver's environment, below the job's own
// variables, and RUNNER_TEMP_PROJECT_DIR above them, so that references expand as
// they do in the runner. The environment holds expanded values.
func (v Variables) WithRunner(environ []string) Variables {
	have := make(map[string]bool, len(v))
	for _, variable := range v {
		have[variable.Key] = true
	}
	var runner, above Variables
	for _, entry := range environ {
		key, value, _ := strings.Cut(entry, "=")
		key, ok := strings.CutPrefix(key, envPrefix)
		switch {
		case ok && key == tempDirKey:
			above = append(above, Variable{Key: key, Value: value, Raw: true})
		case ok && !have[key]:
			runner = append(runner, Variable{Key: key, Value: value, Raw: true})
		}
	}
	return slices.Concat(runner, v, above)
}

// Lookup finds the variable that counts for key, not expanded.
func (v Variables) Lookup(key string) (Variable, bool) {
	for _, variable := range slices.Backward(v) {
		if variable.Key == key {
			return variable, true
		}
	}
	return Variable{}, false
}

// Get returns a variable's value, expanded as the runner expands it: once,
// with references to unexpanded values. Of a file-type variable it is the
// file's path, as in the job's scripts. Unknown keys are empty.
func (v Variables) Get(key string) string {
	variable, ok := v.Lookup(key)
	if !ok {
		return ""
	}
	if variable.File {
		return v.filePath(key)
	}
	return v.expand(variable)
}

// Value is Get, but of a file-type variable it is the content.
func (v Variables) Value(key string) string {
	variable, _ := v.Lookup(key)
	return v.expand(variable)
}

// Has says whether the job defines key.
func (v Variables) Has(key string) bool {
	_, ok := v.Lookup(key)
	return ok
}

// Expand returns value with its $KEY and ${KEY} references replaced the way
// the runner does in image:, artifacts:paths and the like: by the expanded
// values of the job's variables.
func (v Variables) Expand(value string) string {
	return os.Expand(value, func(key string) string {
		if s, ok := special(key); ok {
			return s
		}
		return v.Get(key)
	})
}

// Keys lists the names of all variables once, in order of appearance.
func (v Variables) Keys() []string {
	seen := make(map[string]bool, len(v))
	keys := make([]string, 0, len(v))
	for _, variable := range v {
		if !seen[variable.Key] {
			seen[variable.Key] = true
			keys = append(keys, variable.Key)
		}
	}
	return keys
}

// Masked lists the values that must not be shown, expanded, longest first so
// that a value is replaced before a part of it is.
func (v Variables) Masked() []string {
	var masked []string
	for _, variable := range v {
		if !variable.Masked {
			continue
		}
		if value := v.expand(variable); value != "" {
			masked = append(masked, value)
		}
	}
	slices.SortStableFunc(masked, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(masked)
}

// expand is spec.Variables.Expand of the runner for one variable.
func (v Variables) expand(variable Variable) string {
	if variable.Raw {
		return variable.Value
	}
	return os.Expand(variable.Value, func(key string) string {
		if s, ok := special(key); ok {
			return s
		}
		referenced, _ := v.Lookup(key)
		if referenced.File {
			return v.filePath(key)
		}
		return referenced.Value
	})
}

func (v Variables) filePath(key string) string {
	dir, _ := v.Lookup(tempDirKey)
	return path.Join(dir.Value, key)
}

// special are the names that os.Expand reads as shell parameters: "$$" stays a
// dollar, the others are empty, as in the runner.
func special(key string) (string, bool) {
	switch key {
	case "$":
		return key, true
	case "*", "#", "@", "!", "?", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9":
		return "", true
	}
	return "", false
}
