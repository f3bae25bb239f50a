package gitlab

import (
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// maxDotenv is the size above which GitLab refuses a dotenv report
// (Ci::ParseDotenvArtifactService).
const maxDotenv = 5 << 10

// dotenvKey is what GitLab allows as the name of a variable.
var dotenvKey = regexp.MustCompile(`^[a-zA-Z0-9_]+$`)

// ParseDotenv reads a dotenv report as GitLab does: KEY=VALUE lines and nothing
// else (no empty lines, comments or quotes), blanks around both cut off, the
// last of several equal keys wins.
func ParseDotenv(text string) ([]Variable, error) {
	if len(text) > maxDotenv {
		return nil, fmt.Errorf("dotenv artifact too big. Maximum allowable size: %d", maxDotenv)
	}
	var variables []Variable
	index := map[string]int{}
	for number, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if text == "" {
			break
		}
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok || !dotenvKey.MatchString(key) {
			return nil, fmt.Errorf("dotenv: line %d is not KEY=VALUE: Invalid Format", number+1)
		}
		if at, seen := index[key]; seen {
			variables[at].Value = value
			continue
		}
		index[key] = len(variables)
		variables = append(variables, Variable{Key: key, Value: value})
	}
	return variables, nil
}

// readDotenv reads an uploaded report, which is gzipped: one gzip member for
// each file that matched.
func readDotenv(stored StoredArtifact) ([]Variable, error) {
	file, err := os.Open(stored.Path)
	if err != nil {
		return nil, fmt.Errorf("dotenv: %w", err)
	}
	defer file.Close()
	var reader io.Reader = file
	if stored.Format == "gzip" {
		if reader, err = gzip.NewReader(file); err != nil {
			return nil, fmt.Errorf("dotenv: %w", err)
		}
	}
	text, err := io.ReadAll(io.LimitReader(reader, maxDotenv+1))
	if err != nil {
		return nil, fmt.Errorf("dotenv: %w", err)
	}
	return ParseDotenv(string(text))
}
