package executor

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/job"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/joblog"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

func TestPlaceOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]place{
		"prepare_script": onHost, "get_sources": onHost, "clear_worktree": onHost, "restore_cache": onHost,
		"download_artifacts": onHost, "cleanup_file_variables": onHost, "boot_verify_probes": onHost,
		"a_stage_of_the_future": onHost,
		"build_script":          inScript, "step_script": inScript, "step_release": inScript,
		"after_script":  inAfter,
		"archive_cache": onHostLast, "archive_cache_on_failure": onHostLast,
		"upload_artifacts_on_success": onHostLast, "upload_artifacts_on_failure": onHostLast,
	} {
		assert.Equal(t, want, placeOf(name), name)
	}
}

// newTestStage is a stage of a job without AWS and without a sandbox.
func newTestStage(t *testing.T, j *job.Job, environ ...string) *training {
	t.Helper()
	j.ID, j.Instance = 401, "i"
	s := settings.Default()
	s.WorkDir, s.Region = t.TempDir(), "eu-west-1"
	log := joblog.New(io.Discard)
	st := &stage{Stage: Stage{Environ: environ}, job: j, settings: s, log: log, out: log.Writer(), host: newHost(s, j)}
	st.dirs = newDirs(st.host, j)
	return &training{stage: st, state: &state{}}
}

func TestProjectDirMustLieInTheBuildsDirectory(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ tmp, want string }{
		"as the runner says":  {"/tmp/builds/401/group/demo.tmp", "/tmp/builds/401/group/demo"},
		"elsewhere":           {"/etc/demo.tmp", ""},
		"another job":         {"/tmp/builds/402/group/demo.tmp", ""},
		"a job with a prefix": {"/tmp/builds/4011/demo.tmp", ""},
		"out and away":        {"/tmp/builds/401/../402/demo.tmp", ""},
		"the builds itself":   {"/tmp/builds/401.tmp", ""},
		"no suffix":           {"/tmp/builds/401/group/demo", ""},
		"missing":             {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestStage(t, &job.Job{}, "CUSTOM_ENV_RUNNER_TEMP_PROJECT_DIR="+tt.tmp)
			got, err := s.projectDir()
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.want == "", err != nil)
		})
	}
}

func TestProjectDirThatNobodySet(t *testing.T) {
	t.Parallel()
	_, err := newTestStage(t, &job.Job{}).projectDir()
	assert.ErrorContains(t, err, "RUNNER_TEMP_PROJECT_DIR is not set")
}

func TestLastStep(t *testing.T) {
	t.Parallel()
	script, release, after := job.Step{Name: "script"}, job.Step{Name: "release"}, job.Step{Name: "after_script"}
	for name, tt := range map[string]struct {
		steps []job.Step
		stage string
		want  bool
	}{
		"the script":                      {[]job.Step{script, after}, "step_script", true},
		"the script by its old name":      {[]job.Step{script}, "build_script", true},
		"a release follows":               {[]job.Step{script, release}, "build_script", false},
		"the release":                     {[]job.Step{script, release, after}, "step_release", true},
		"no steps at all, still a script": {nil, "build_script", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tt.want, newTestStage(t, &job.Job{Steps: tt.steps}).lastStep(tt.stage))
		})
	}
}

func TestStateSurvivesAndHoldsNothingElse(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "jobs", "i", "401")
	_, found, err := loadState(base)
	require.NoError(t, err)
	assert.False(t, found)

	want := &state{Kind: "training", Asked: true, Name: "n", Attempt: 2, InstanceType: "ml.a", Contacted: true, Succeeded: true, Finished: true}
	require.NoError(t, (&state{Kind: "training"}).save(base))
	require.NoError(t, want.save(base))
	got, found, err := loadState(base)
	require.NoError(t, err)
	assert.True(t, found)
	assert.Equal(t, want, got)
	entries, err := os.ReadDir(base)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary files are left")

	require.NoError(t, os.WriteFile(filepath.Join(base, stateFile), []byte("{"), 0o600))
	_, _, err = loadState(base)
	assert.Error(t, err)
}

func TestResults(t *testing.T) {
	t.Parallel()
	const want = "SAGEMAKER_OUT_TRAINING_JOB_NAME=gitlab-i-401-1\n" +
		"SAGEMAKER_OUT_MODEL_DATA=s3://bucket/models/gitlab-i-401-1/output/model.tar.gz\n" +
		"SAGEMAKER_OUT_INSTANCE_TYPE=ml.a\n" +
		"SAGEMAKER_OUT_CONSOLE_URL=https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/gitlab-i-401-1\n"
	dotenv := []job.Artifact{{Type: "dotenv", Paths: []string{"*.env"}}}
	newProject := func(t *testing.T, j *job.Job) (*training, string) {
		s := newTestStage(t, j)
		s.state = &state{Name: "gitlab-i-401-1", InstanceType: "ml.a", ModelURI: "s3://bucket/models/gitlab-i-401-1/output/model.tar.gz"}
		project := filepath.Join(s.dirs.builds, "group", "demo")
		require.NoError(t, os.MkdirAll(project, 0o755))
		require.NoError(t, os.MkdirAll(project+".tmp", 0o755))
		if os.Geteuid() == 0 { // as prepare does
			require.NoError(t, os.Chown(s.dirs.builds, 65534, 65534))
		}
		return s, project
	}
	const inside = "/tmp/builds/401/group/demo"

	t.Run("for a dotenv report and GITLAB_ENV", func(t *testing.T) {
		t.Parallel()
		s, project := newProject(t, &job.Job{Artifacts: dotenv})
		require.NoError(t, os.WriteFile(filepath.Join(project+".tmp", gitlabEnvFile), []byte("MINE=1\n"), 0o644))
		require.NoError(t, s.results(inside))
		assertFile(t, filepath.Join(project, resultFile), want)
		assertFile(t, filepath.Join(project+".tmp", gitlabEnvFile), "MINE=1\n"+want)
		require.NoError(t, s.results(inside), "again")
		assertFile(t, filepath.Join(project, resultFile), want)
	})
	t.Run("nobody asks for them", func(t *testing.T) {
		t.Parallel()
		s, project := newProject(t, &job.Job{Artifacts: []job.Artifact{{Untracked: true, Paths: []string{"out/**"}}}})
		require.NoError(t, s.results(inside))
		assert.NoFileExists(t, filepath.Join(project, resultFile))
	})
	t.Run("with a prefix", func(t *testing.T) {
		t.Parallel()
		s, _ := newProject(t, &job.Job{Variables: job.Variables{{Key: prefixVariable, Value: "gpu-1"}}})
		assert.Contains(t, s.resultLines(), "SAGEMAKER_OUT_GPU_1_TRAINING_JOB_NAME=")
	})
	t.Run("links are not followed", func(t *testing.T) {
		t.Parallel()
		s, project := newProject(t, &job.Job{Artifacts: dotenv})
		victim := filepath.Join(t.TempDir(), "victim")
		require.NoError(t, os.WriteFile(victim, []byte("precious"), 0o600))
		require.NoError(t, os.Symlink(victim, filepath.Join(project, resultFile)))
		require.NoError(t, os.Symlink(victim, filepath.Join(project+".tmp", gitlabEnvFile)))
		require.NoError(t, s.results(inside))
		assertFile(t, victim, "precious")
		info, err := os.Lstat(filepath.Join(project, resultFile))
		require.NoError(t, err)
		assert.True(t, info.Mode().IsRegular())
	})
	t.Run("a project that is a link out of the builds directory", func(t *testing.T) {
		t.Parallel()
		s, project := newProject(t, &job.Job{Artifacts: dotenv})
		outside := t.TempDir()
		require.NoError(t, os.RemoveAll(filepath.Dir(project)))
		require.NoError(t, os.Symlink(outside, filepath.Dir(project)))
		require.NoError(t, os.Mkdir(filepath.Join(outside, "demo"), 0o755))
		require.Error(t, s.results(inside))
		assert.NoFileExists(t, filepath.Join(outside, "demo", resultFile))
	})
}

func assertFile(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if assert.NotErrorIs(t, err, fs.ErrNotExist) {
		assert.Equal(t, want, string(got))
	}
}
