package match

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// project makes a tree; a name that ends in a slash is a directory, one with
// "->" a link.
func project(t *testing.T, names ...string) (string, *os.Root) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		name, target, isLink := strings.Cut(name, "->")
		file := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(file, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		if isLink {
			require.NoError(t, os.Symlink(target, file))
			continue
		}
		require.NoError(t, os.WriteFile(file, []byte(name), 0o644))
	}
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { root.Close() })
	return dir, root
}

func TestSelect(t *testing.T) {
	t.Parallel()
	tree := []string{
		"a.txt", "b.log", "out/x.txt", "out/sub/y.txt", "out/sub/z.log", "out/empty/", "deep/1/2/3.txt",
		"with blank/f", "new\nline", "out/link->x.txt", "loop->.", "away->/etc", "bytes/\xff\xfe",
		"[odd]", "a{b}", "to out->out", "abs->/builds/p/out", "python->/usr/bin/python3", "late->deep/../away",
	}
	for name, c := range map[string]struct {
		pattern exchange.Pattern
		want    []string
		along   []string
		barred  []string
		warning string
	}{
		"a file":                 {pattern: exchange.Pattern{Paths: []string{"a.txt"}}, want: []string{"a.txt"}},
		"a file, from dot":       {pattern: exchange.Pattern{Paths: []string{"./a.txt"}}, want: []string{"a.txt"}},
		"a directory":            {pattern: exchange.Pattern{Paths: []string{"out/"}}, want: []string{"out", "out/empty", "out/link", "out/sub", "out/sub/y.txt", "out/sub/z.log", "out/x.txt"}},
		"everything in it":       {pattern: exchange.Pattern{Paths: []string{"out/*"}}, want: []string{"out/empty", "out/link", "out/sub", "out/sub/y.txt", "out/sub/z.log", "out/x.txt"}},
		"two stars":              {pattern: exchange.Pattern{Paths: []string{"**/*.txt"}}, want: []string{"a.txt", "deep/1/2/3.txt", "out/sub/y.txt", "out/x.txt"}},
		"braces":                 {pattern: exchange.Pattern{Paths: []string{"{a,b}.*"}}, want: []string{"a.txt", "b.log"}},
		"exclude":                {pattern: exchange.Pattern{Paths: []string{"out"}, Exclude: []string{"out/**/*.log", "out/empty"}}, want: []string{"out", "out/link", "out/sub", "out/sub/y.txt", "out/x.txt"}},
		"blanks and lines":       {pattern: exchange.Pattern{Paths: []string{"with blank", "new*"}}, want: []string{"new\nline", "with blank", "with blank/f"}},
		"not UTF-8":              {pattern: exchange.Pattern{Paths: []string{"bytes"}}, want: []string{"bytes", "bytes/\xff\xfe"}},
		"links are not followed": {pattern: exchange.Pattern{Paths: []string{"loop", "away", "to out"}}, want: []string{"away", "loop", "to out"}, along: []string{"out"}},
		"escaped":                {pattern: exchange.Pattern{Paths: []string{`\[odd\]`, `a\{b\}`}}, want: []string{"[odd]", "a{b}"}},
		"absolute":               {pattern: exchange.Pattern{Paths: []string{"/builds/p/out/*.txt"}}, want: []string{"out/x.txt"}},
		"outside":                {pattern: exchange.Pattern{Paths: []string{"../x", "/etc/passwd"}}, warning: "not a subpath"},
		"out of the project":     {pattern: exchange.Pattern{Paths: []string{"away/passwd"}}, barred: []string{"away"}, warning: "no matching files"},
		"a link and behind it":   {pattern: exchange.Pattern{Paths: []string{"away", "away/passwd", "python"}}, want: []string{"python"}, barred: []string{"away"}, warning: "no matching files"},
		"a link and some behind": {pattern: exchange.Pattern{Paths: []string{"late", "late/*", "*/python", "python"}}, want: []string{"python"}, barred: []string{"away", "late"}, warning: "no matching files"},
		"through a link":         {pattern: exchange.Pattern{Paths: []string{"to out/x.txt"}}, want: []string{"out/x.txt"}, along: []string{"to out"}},
		"a link and through it":  {pattern: exchange.Pattern{Paths: []string{"to out", "to out/x.txt"}}, want: []string{"out/x.txt", "to out"}, along: []string{"out"}},
		"through, with a star":   {pattern: exchange.Pattern{Paths: []string{"to out/*.txt"}}, want: []string{"out/x.txt"}, along: []string{"to out"}},
		"a star is no way":       {pattern: exchange.Pattern{Paths: []string{"to*/x.txt"}}, warning: "no matching files"},
		"through, with excludes": {pattern: exchange.Pattern{Paths: []string{"to out/sub"}, Exclude: []string{"to out/**/*.log"}}, want: []string{"out/sub", "out/sub/y.txt"}, along: []string{"to out"}},
		"through, absolute":      {pattern: exchange.Pattern{Paths: []string{"abs/*.txt"}}, want: []string{"out/x.txt"}, along: []string{"abs"}},
		"through a loop":         {pattern: exchange.Pattern{Paths: []string{"loop/loop/a.txt"}}, want: []string{"a.txt"}, along: []string{"loop"}},
		"none":                   {pattern: exchange.Pattern{Paths: []string{"none"}}, warning: "no matching files"},
		"empty":                  {pattern: exchange.Pattern{Paths: []string{""}}, warning: "Path is empty"},
		"bad":                    {pattern: exchange.Pattern{Paths: []string{"[a"}}, warning: "syntax error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, root := project(t, tree...)
			got, err := Select(t.Context(), root, "/builds/p", []exchange.Pattern{c.pattern})
			require.NoError(t, err)
			assert.Equal(t, c.want, got.Names)
			assert.Equal(t, c.along, got.Along)
			assert.Equal(t, c.barred, got.Barred)
			if c.warning != "" {
				assert.Contains(t, strings.Join(got.Warnings, "\n"), c.warning)
			} else {
				assert.Empty(t, got.Warnings)
			}
		})
	}
}

func TestSelectTheProjectItself(t *testing.T) {
	t.Parallel()
	_, root := project(t, "a", "d/b")
	for _, p := range []string{".", "./", "/builds/p", "**"} {
		got, err := Select(t.Context(), root, "/builds/p", []exchange.Pattern{{Paths: []string{p}}})
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "d", "d/b"}, got.Names, p)
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	env := map[string]string{"NAME": "model", "EXT": "bin"}
	got, warnings := Expand([]exchange.Pattern{
		{Paths: []string{"$NAME.$EXT", "${NAME}-*/", "plain", "${NONE:-other}", "$NONE"}, Exclude: []string{"$NAME/*"}, Untracked: true},
		{Paths: []string{"$(rm -rf /)", "${"}},
	}, func(s string) string { return env[s] })
	require.Len(t, got, 2)
	assert.Equal(t, exchange.Pattern{
		Paths: []string{"model.bin", "model-*/", "plain", "other", ""}, Exclude: []string{"model/*"}, Untracked: true,
	}, got[0])
	assert.Equal(t, []string{"$(rm -rf /)", "${"}, got[1].Paths)
	assert.Len(t, warnings, 2)
}

// git is the oracle of untracked files.
func TestUntrackedIsWhatGitSays(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	for version, config := range map[string]string{"2": "2", "4": "4"} {
		t.Run("index version "+version, func(t *testing.T) {
			t.Parallel()
			dir, root := project(t, "tracked", "src/tracked.c", "src/deep/er/tracked", ".gitignore", "ü/tracked")
			git := func(args ...string) []byte {
				cmd := exec.Command("git", args...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
					"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@b")
				cmd.Stderr = os.Stderr
				out, err := cmd.Output()
				require.NoError(t, err, args)
				return out
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*.o\n"), 0o644))
			git("init", "-q")
			git("config", "index.version", config)
			git("add", "-A")
			git("commit", "-qm", "x")
			git("update-index", "--index-version", config)
			for _, name := range []string{"new", "src/main.o", "src/new dir/file", "line\nbreak", "intended", "nested/file"} {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o644))
			}
			require.NoError(t, os.Mkdir(filepath.Join(dir, "empty"), 0o755))
			require.NoError(t, os.Symlink("tracked", filepath.Join(dir, "link")))
			git("add", "--intent-to-add", "intended")
			git("init", "-q", "nested")

			var want []string
			for name := range bytes.SplitSeq(git("ls-files", "-o", "-z"), []byte{0}) {
				if len(name) > 0 {
					want = append(want, strings.TrimSuffix(string(name), "/"))
				}
			}
			slices.Sort(want)
			got, err := Select(t.Context(), root, dir, []exchange.Pattern{{Untracked: true}})
			require.NoError(t, err)
			assert.Empty(t, got.Warnings)
			assert.Equal(t, want, got.Names)
			assert.Equal(t, []string{".git/index"}, got.Along)

			got, err = Select(t.Context(), root, dir, []exchange.Pattern{{Untracked: true, Exclude: []string{"**/*.o"}}})
			require.NoError(t, err)
			assert.NotContains(t, got.Names, "src/main.o")
		})
	}
}

func TestUntrackedWithoutARepository(t *testing.T) {
	t.Parallel()
	_, root := project(t, "a")
	got, err := Select(t.Context(), root, "/p", []exchange.Pattern{{Untracked: true}})
	require.NoError(t, err)
	assert.Empty(t, got.Names)
	assert.Len(t, got.Warnings, 1)
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("DIRC\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add(append([]byte("DIRC\x00\x00\x00\x04\x00\x00\x00\x01"), make([]byte, 70)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := parseIndex(bytes.NewReader(b))
		if err == nil {
			require.LessOrEqual(t, len(names), len(b))
		}
	})
}
