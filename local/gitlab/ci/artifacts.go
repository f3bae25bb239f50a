package ci

import (
	"crypto/sha1" // GitLab names caches so
	"encoding/hex"
	"slices"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/gitlab"
)

// artifacts is artifacts:, as the runner gets it.
type artifacts struct {
	archive *gitlab.Artifact
	reports []gitlab.Artifact
}

func (a *artifacts) all() []gitlab.Artifact {
	if a == nil {
		return nil
	}
	var all []gitlab.Artifact
	if a.archive != nil {
		all = append(all, *a.archive)
	}
	return append(all, a.reports...)
}

func readArtifacts(n *node) (*artifacts, error) {
	archive := gitlab.Artifact{When: "on_success", Type: gitlab.ArtifactArchive, Format: "zip"}
	result := &artifacts{}
	err := n.read(keywords{
		"name":      into(&archive.Name, (*node).text),
		"paths":     into(&archive.Paths, (*node).flatTexts),
		"exclude":   into(&archive.Exclude, (*node).flatTexts),
		"untracked": into(&archive.Untracked, (*node).boolean),
		"expire_in": into(&archive.ExpireIn, (*node).text),
		"when": func(n *node) (err error) {
			archive.When, err = n.oneOf("on_success", "on_failure", "always")
			return err
		},
		"reports": into(&result.reports, readReports),
		// Who may see the artifacts: here it is the one user of the machine.
		"public": ignored,
		"access": ignored,
	})
	if err != nil {
		return nil, err
	}
	if len(archive.Paths) > 0 || archive.Untracked {
		result.archive = &archive
	}
	for i := range result.reports {
		result.reports[i].ExpireIn = archive.ExpireIn
	}
	return result, nil
}

// reportType is how GitLab has a report uploaded (Ci::JobArtifact,
// Enums::Ci::JobArtifact: TYPE_AND_FORMAT_PAIRS, DEFAULT_FILE_NAMES).
type reportType struct{ format, name string }

var reportTypes = map[string]reportType{
	"accessibility":           {"raw", "gl-accessibility.json"},
	"annotations":             {"gzip", "gl-annotations.json"},
	"api_fuzzing":             {"raw", "gl-api-fuzzing-report.json"},
	"browser_performance":     {"raw", "browser-performance.json"},
	"cluster_image_scanning":  {"raw", "gl-cluster-image-scanning-report.json"},
	"codequality":             {"raw", "gl-code-quality-report.json"},
	"container_scanning":      {"raw", "gl-container-scanning-report.json"},
	"coverage_fuzzing":        {"raw", "gl-coverage-fuzzing.json"},
	"cyclonedx":               {"gzip", "gl-sbom.cdx.json"},
	"dast":                    {"raw", "gl-dast-report.json"},
	"dependency_scanning":     {"raw", "gl-dependency-scanning-report.json"},
	"dotenv":                  {"gzip", ".env"},
	"junit":                   {"gzip", "junit.xml"},
	"load_performance":        {"raw", "load-performance.json"},
	"lsif":                    {"zip", "lsif.json"},
	"metrics":                 {"gzip", "metrics.txt"},
	"performance":             {"raw", "performance.json"},
	"repository_xray":         {"gzip", "gl-repository-xray.json"},
	"requirements":            {"raw", "requirements.json"},
	"sast":                    {"raw", "gl-sast-report.json"},
	"secret_detection":        {"raw", "gl-secret-detection-report.json"},
	"terraform":               {"raw", "tfplan.json"},
	"coverage_report:jacoco":  {"gzip", "jacoco-coverage.xml"},
	"coverage_report:generic": {"gzip", "cobertura-coverage.xml"},
}

func readReports(n *node) ([]gitlab.Artifact, error) {
	if n.kind != mapping {
		return nil, n.errorf("must be a map, it is %s", n.kind)
	}
	var reports []gitlab.Artifact
	for _, p := range n.pairs {
		if p.key == "coverage_report" {
			report, err := readCoverage(p.node)
			if err != nil {
				return nil, in(p.key, err)
			}
			reports = append(reports, report)
			continue
		}
		kind, known := reportTypes[p.key]
		if !known {
			return nil, &Error{File: p.file, Line: p.line, Keyword: p.key, Problem: "this report is not known to the local pipeline"}
		}
		paths, err := p.node.flatTexts()
		if err != nil {
			return nil, in(p.key, err)
		}
		reports = append(reports, gitlab.Artifact{
			Name: kind.name, Paths: paths, When: "always", Type: p.key, Format: kind.format,
		})
	}
	return reports, nil
}

func readCoverage(n *node) (gitlab.Artifact, error) {
	report := gitlab.Artifact{When: "always", Format: "gzip"}
	var path string
	err := n.read(keywords{
		"path": into(&path, (*node).text),
		"coverage_format": func(n *node) (err error) {
			report.Type, err = n.oneOf("cobertura", "jacoco")
			return err
		},
	})
	report.Paths = []string{path}
	report.Name = reportTypes["coverage_report:generic"].name
	if report.Type == "jacoco" {
		report.Name = reportTypes["coverage_report:jacoco"].name
	}
	if err == nil && (path == "" || report.Type == "") {
		err = n.errorf("needs a path and a coverage_format")
	}
	return report, err
}

// cache is an entry of cache:.
type cache struct {
	gitlab.Cache
	files       []string // key:files
	prefix      string
	unprotected bool
}

func readCaches(n *node) ([]cache, error) {
	items := []*node{n}
	if n.kind == list {
		items = n.items
	}
	caches := []cache{}
	for _, item := range items {
		one, err := readCache(item)
		if err != nil {
			return nil, err
		}
		caches = append(caches, one)
	}
	return caches, nil
}

func readCache(n *node) (cache, error) {
	c := cache{Cache: gitlab.Cache{Key: "default", Policy: "pull-push", When: "on_success"}}
	err := n.read(keywords{
		"key":       c.readKey,
		"paths":     into(&c.Paths, (*node).flatTexts),
		"untracked": into(&c.Untracked, (*node).boolean),
		"policy": func(n *node) (err error) {
			if c.Policy, err = n.text(); err == nil && !strings.HasPrefix(c.Policy, "$") {
				c.Policy, err = n.oneOf("pull-push", "pull", "push")
			}
			return err
		},
		"when": func(n *node) (err error) {
			c.When, err = n.oneOf("on_success", "on_failure", "always")
			return err
		},
		"fallback_keys": into(&c.FallbackKeys, (*node).texts),
		"unprotect":     into(&c.unprotected, (*node).boolean),
	})
	return c, err
}

func (c *cache) readKey(n *node) (err error) {
	if n.kind != mapping {
		c.Key, err = n.text()
		if err == nil && (strings.Contains(c.Key, "/") || c.Key == "." || c.Key == "..") {
			err = n.errorf("is %q, a key has no slash and is not a dot or two", c.Key)
		}
		return err
	}
	err = n.read(keywords{
		"files":  into(&c.files, (*node).texts),
		"prefix": into(&c.prefix, (*node).text),
	})
	if err == nil && (len(c.files) == 0 || len(c.files) > 2) {
		err = n.errorf("key:files names one or two files")
	}
	return err
}

// payload is the cache as the runner gets it. lastCommit tells the last commit
// that changed a path ("" for none): key:files is made of those
// (Gitlab::Ci::Pipeline::Seed::Build::Cache). Keys end in the ref's protection,
// as is GitLab's default (separate caches for protected branches).
func (c cache) payload(protected bool, lastCommit func(path string) string) gitlab.Cache {
	result := c.Cache
	if len(c.files) > 0 {
		result.Key = "default"
		var commits []string
		for _, file := range c.files {
			if commit := lastCommit(file); commit != "" {
				commits = append(commits, commit)
			}
		}
		slices.Sort(commits)
		if commits = slices.Compact(commits); len(commits) > 0 {
			sum := sha1.Sum([]byte(strings.Join(commits, "-")))
			result.Key = hex.EncodeToString(sum[:])
		}
		if c.prefix != "" {
			result.Key = c.prefix + "-" + result.Key
		}
	}
	suffix := "-non_protected"
	if protected && !c.unprotected {
		suffix = "-protected"
	}
	result.Key += suffix
	result.FallbackKeys = slices.Clone(c.FallbackKeys)
	for i := range result.FallbackKeys {
		result.FallbackKeys[i] += suffix
	}
	return result
}
