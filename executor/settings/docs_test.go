package settings_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

var update = flag.Bool("update", false, "write the tables of docs/settings.md")

const (
	docs    = "../../docs/settings.md"
	example = "../../config.toml.example"
)

// TestDocs holds docs/settings.md to the doc tags.
func TestDocs(t *testing.T) {
	t.Parallel()

	want := table()
	text, err := os.ReadFile(docs)
	require.NoError(t, err)
	head, rest, ok := strings.Cut(string(text), "-update -->\n")
	require.True(t, ok)
	got, tail, ok := strings.Cut(rest, "<!-- end of keys -->")
	require.True(t, ok)
	if *update {
		require.NoError(t, os.WriteFile(docs, []byte(head+"-update -->\n"+want+"<!-- end of keys -->"+tail), 0o644))
		return
	}
	assert.Equal(t, want, got, "run go test ./executor/settings -update")
}

func table() string {
	var b strings.Builder
	defaults := reflect.ValueOf(*settings.Default())
	section := "-"
	for _, k := range settings.Describe() {
		table, key, dotted := strings.Cut(k.Name, ".")
		if !dotted {
			table, key = "", k.Name
			if k.Type == "table" {
				table, key = k.Name, "*name*"
			}
		}
		if table != section {
			section = table
			title, doc := "`["+table+"]`", tableDoc(table)
			if table == "" {
				title, doc = "Top level", "Keys above the first table."
			}
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| key | type | default | |\n|---|---|---|---|\n", title, doc)
		}
		name, doc := "`"+key+"`", k.Doc
		if k.Type == "table" {
			name, doc = key, "An entry."
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, strings.Replace(k.Type, "table", "string", 1), defaultText(defaults, k.Name), strings.ReplaceAll(doc, "|", "\\|"))
	}
	b.WriteString("\n")
	return b.String()
}

func tableDoc(name string) string {
	for f := range reflect.TypeFor[settings.Settings]().Fields() {
		if f.Tag.Get("toml") == name {
			return f.Tag.Get("doc")
		}
	}
	return ""
}

// field finds the value of a key.
func field(v reflect.Value, key string) reflect.Value {
	part, rest, more := strings.Cut(key, ".")
	for f, value := range v.Fields() {
		if f.Tag.Get("toml") == part {
			if more {
				return field(value, rest)
			}
			return value
		}
	}
	panic(key)
}

func defaultText(v reflect.Value, key string) string {
	switch d := field(v, key).Interface().(type) {
	case settings.Duration:
		if d == 0 {
			return "`0`"
		}
		return "`" + brief(d) + "`"
	case []string:
		if len(d) == 0 {
			return "`[]`"
		}
		return "`" + strings.Join(d, "`, `") + "`"
	case map[string]string:
		return ""
	case string:
		if d == "" {
			return ""
		}
		return "`" + d + "`"
	default:
		return fmt.Sprintf("`%v`", d)
	}
}

func brief(d settings.Duration) string {
	text := strings.TrimSuffix(d.String(), "0s")
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	if strings.HasSuffix(text, "m") || strings.HasSuffix(text, "h") {
		return text
	}
	return d.String()
}

// exampleParts are the two files of config.toml.example.
func exampleParts(t *testing.T) (runner, ours string) {
	t.Helper()
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	runner, ours, ok := strings.Cut(string(text), "\n# -----")
	require.True(t, ok)
	return runner, "# " + ours
}

// TestExample holds our half of config.toml.example to the keys and defaults.
func TestExample(t *testing.T) {
	t.Parallel()

	_, ours := exampleParts(t)
	file := filepath.Join(t.TempDir(), "settings.toml")
	require.NoError(t, os.WriteFile(file, []byte(ours), 0o600))
	s, err := settings.Load(file, nil, nil)
	require.NoError(t, err)

	own := map[string]bool{ // the example's own values
		"region": true, "role_arn": true, "bucket": true, "exchange_bucket": true,
		"network.subnets": true, "network.security_groups": true,
	}
	got, want := reflect.ValueOf(*s), reflect.ValueOf(*settings.Default())
	for _, k := range settings.Describe() {
		if k.Type == "table" {
			assert.NotZero(t, field(got, k.Name).Len(), k.Name)
			continue
		}
		assert.Contains(t, s.Sources, k.Name, "config.toml.example lacks a key")
		if !own[k.Name] {
			assert.Equal(t, field(want, k.Name).Interface(), field(got, k.Name).Interface(), "%s: the example calls it the default", k.Name)
		}
	}
}

// TestExampleRunner holds the runner's half to the keys of GitLab Runner
// (common.CustomConfig) and to the times that must fit together.
func TestExampleRunner(t *testing.T) {
	t.Parallel()

	runner, ours := exampleParts(t)
	var config struct {
		Concurrent int `toml:"concurrent"`
		Runners    []struct {
			Name        string `toml:"name"`
			URL         string `toml:"url"`
			Token       string `toml:"token"`
			Executor    string `toml:"executor"`
			OutputLimit int64  `toml:"output_limit"`
			Custom      struct {
				ConfigExec          string   `toml:"config_exec"`
				ConfigArgs          []string `toml:"config_args"`
				PrepareExec         string   `toml:"prepare_exec"`
				PrepareArgs         []string `toml:"prepare_args"`
				RunExec             string   `toml:"run_exec"`
				RunArgs             []string `toml:"run_args"`
				CleanupExec         string   `toml:"cleanup_exec"`
				CleanupArgs         []string `toml:"cleanup_args"`
				GracefulKillTimeout int      `toml:"graceful_kill_timeout"`
				ForceKillTimeout    int      `toml:"force_kill_timeout"`
			} `toml:"custom"`
		} `toml:"runners"`
	}
	dec := toml.NewDecoder(bytes.NewReader([]byte(runner)))
	dec.DisallowUnknownFields()
	require.NoError(t, dec.Decode(&config))
	require.Len(t, config.Runners, 1)
	r := config.Runners[0]
	assert.Equal(t, "custom", r.Executor)
	assert.Equal(t, []string{"config", "--settings", settings.DefaultFile}, r.Custom.ConfigArgs)
	assert.Equal(t, []string{"prepare"}, r.Custom.PrepareArgs)
	assert.Equal(t, []string{"run"}, r.Custom.RunArgs)
	assert.Equal(t, []string{"cleanup"}, r.Custom.CleanupArgs)

	file := filepath.Join(t.TempDir(), "settings.toml")
	require.NoError(t, os.WriteFile(file, []byte(ours), 0o600))
	s, err := settings.Load(file, nil, nil)
	require.NoError(t, err)
	grace := time.Duration(r.Custom.GracefulKillTimeout) * time.Second
	assert.Greater(t, grace, s.Agent.StopGrace.D())
	assert.Less(t, grace, 5*time.Minute)
	assert.Greater(t, r.OutputLimit*1024, s.Agent.LogLimit)
	assert.GreaterOrEqual(t, s.Host.UIDCount, config.Concurrent)
}
