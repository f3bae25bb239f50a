package executor

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	awssagemaker "github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker"
	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

const (
	capacityA = `[{"match":{"ResourceConfig.InstanceType":"ml.m5.large"},"job":{"capacity":"failed"}}]`
)

func TestAJobsWay(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		faults    string
		variables map[string]string
		script    string
		want      string
		says      []string
		never     []string
		jobs      int               // 1 unless said
		files     map[string]string // at home
	}{
		"success": {
			script: "cat README; mkdir out; echo model > out/model; rm README; echo $SM_MODEL_DIR",
			want:   "ok", says: []string{"hello", "/opt/ml/model", "Completed", "home"}, never: []string{"Model data"},
			files: map[string]string{"out/model": "model\n"},
		},
		"a model": {
			variables: map[string]string{"SAGEMAKER_SPOT": "true"},
			script:    "echo m > $SM_MODEL_DIR/m", want: "ok",
			says: []string{"Completed", "Model data", "/output/model.tar.gz"},
		},
		"a model of a failed job": {
			script: "echo m > $SM_MODEL_DIR/m; exit 3", want: "3",
			says: []string{"Failed", "Model data"}, // SageMaker sends it all the same
		},
		"the script fails": {
			script: "mkdir out; echo log > out/log; exit 42",
			want:   "42", files: map[string]string{"out/log": "log\n"}, never: []string{"AlgorithmError", "Model data"},
		},
		"the script is killed": {script: "kill -9 $$", want: "137", says: []string{}},
		"capacity: the next type, under a new name": {
			faults: capacityA, variables: map[string]string{"SAGEMAKER_INSTANCE_TYPE": "ml.m5.large,ml.m5.xlarge"},
			script: "echo there", want: "ok", says: []string{"CapacityError", "trying ml.m5.xlarge", "1 × ml.m5.xlarge", "there"}, jobs: 2,
		},
		"no capacity at all": {
			faults: capacityA, script: "echo there", want: "system", says: []string{}, never: []string{"there\n"},
		},
		"quota below the demand": {
			faults: `[{"service":"sagemaker","operation":"CreateTrainingJob","error":"ResourceLimitExceeded","status":400,"message":"The account-level service limit 'ml.m5.large for training job usage' is 0 Instances, with current utilization of 0 Instances and a request delta of 1 Instances."}]`,
			script: "true", want: "69", jobs: -1,
		},
		"throttled for a while": {
			faults: `[{"service":"sagemaker","operation":"CreateTrainingJob","error":"ThrottlingException","status":400,"message":"Rate exceeded","count":1}]`,
			script: "echo there", want: "ok", says: []string{"there"},
		},
		"the answer to the create is lost": {
			faults: `[{"service":"sagemaker","operation":"CreateTrainingJob","error":"InternalFailure","status":500,"message":"oops","count":1,"after":true}]`,
			script: "echo there", want: "ok", says: []string{"there"},
		},
		"the model cannot be uploaded": {
			faults: `[{"job":{"upload_error":"disk full"}}]`,
			script: "mkdir out; echo model > out/model", want: "70", says: []string{"Artifact upload failed"},
			files: map[string]string{"out/model": "model\n"},
		},
		"max runtime": {
			variables: map[string]string{"SAGEMAKER_MAX_RUNTIME": "3s"},
			script:    "echo there; sleep 300", want: "124", says: []string{"there"},
		},
		"a variable is wrong in the spec's file": {
			variables: map[string]string{"SAGEMAKER_SPEC": "missing.yml"},
			script:    "true", want: "78", jobs: -1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, tt.faults)
			j := s.job(t, 401, false, []string{"out/"}, tt.variables)
			j.start(t.Context())
			err := j.run(t.Context(), "build_script", "cd "+j.project()+"\n"+tt.script)
			assert.Equal(t, tt.want, outcome(err), "%v\n%s", err, j.log)
			text := j.log.String()
			if err != nil {
				text += err.Error()
			}
			for _, says := range tt.says {
				assert.Contains(t, text, says)
			}
			for _, never := range tt.never {
				assert.NotContains(t, text, never)
			}
			if tt.jobs >= 0 {
				assert.Len(t, s.jobs(t), max(1, tt.jobs))
			} else {
				assert.Empty(t, s.jobs(t))
			}
			for file, content := range tt.files {
				assert.Equal(t, content, j.hostFile(file))
			}
			j.cleanup()
			j.cleanup() // it can be repeated
		})
	}
}

func TestAfterScriptRunsInTheSameContainer(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 401, true, []string{"out/"}, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "cd "+j.project()+"; mkdir out; echo 1 > out/f; echo secret > /tmp/left"), j.log)
	assert.Empty(t, j.hostFile("out/f"), "files come home with the stage that needs them")
	require.NoError(t, j.run(t.Context(), "after_script", "cd "+j.project()+"; cat /tmp/left; echo 2 >> out/f"), j.log)
	assert.Contains(t, j.log.String(), "secret")
	require.NoError(t, j.run(t.Context(), "upload_artifacts_on_success", "cat "+j.project()+"/out/f"), j.log)
	assert.Equal(t, "1\n2\n", j.hostFile("out/f"))
	assert.Contains(t, j.log.String(), "Completed")
	require.NoError(t, j.run(t.Context(), "cleanup_file_variables", "true"))
	j.cleanup()
}

func TestAModelThatCannotBeUploadedFailsTheJobAlthoughAnAfterScriptFollowed(t *testing.T) {
	t.Parallel()
	s := newStack(t, `[{"job":{"upload_error":"disk full"}}]`)
	j := s.job(t, 401, true, []string{"out/"}, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "cd "+j.project()+"; mkdir out; echo 1 > out/f"), j.log)
	require.NoError(t, j.run(t.Context(), "after_script", "true"), j.log)
	err := j.run(t.Context(), "upload_artifacts_on_success", "echo uploaded; cat "+j.project()+"/out/f")
	assert.Equal(t, "70", outcome(err), "%v", err)
	assert.ErrorContains(t, err, "disk full")
	assert.Contains(t, j.log.String(), "uploaded\n1\n", "artifacts that are home are not lost")
	j.cleanup()
}

func TestCleanupWaitsForAnUploadWhereNoStageDoes(t *testing.T) {
	t.Parallel()
	s := newStack(t, `[{"job":{"upload_delay":"2s"}}]`)
	j := s.job(t, 401, true, nil, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "echo model > $SM_MODEL_DIR/m"), j.log)
	require.NoError(t, j.run(t.Context(), "after_script", "true"), j.log)
	j.cleanup()
	for name, status := range s.jobs(t) {
		assert.Equal(t, "Completed", status)
		assert.Contains(t, s.keys(t, "ci/models/"), findModel(s.keys(t, "ci/models/"), name))
	}
}

func findModel(keys []string, job string) string {
	for _, k := range keys {
		if strings.HasSuffix(k, job+"/output/model.tar.gz") {
			return k
		}
	}
	return "a model of " + job
}

func TestCancel(t *testing.T) {
	t.Parallel()

	t.Run("before anything was asked for", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, true, nil, nil)
		j.start(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, ErrStopped, j.run(ctx, "build_script", "true"))
		assert.Empty(t, s.jobs(t))
		require.NoError(t, j.run(t.Context(), "after_script", "echo never"))
		assert.Contains(t, j.log.String(), "after_script is skipped")
		assert.Contains(t, j.log.String(), "Stopped before the end (cancel or time-out)")
		assert.NotContains(t, j.log.String(), "context canceled")
		started := time.Now()
		j.cleanup()
		assert.Less(t, time.Since(started), time.Minute, "there is no intent to wait for")
	})

	t.Run("while the create is on its way", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, `[{"service":"sagemaker","operation":"CreateTrainingJob","after":true,"delay":"1s"}]`)
		j := s.job(t, 401, true, nil, nil)
		j.start(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for len(s.jobs(t)) == 0 {
				time.Sleep(20 * time.Millisecond)
			}
			cancel()
		}()
		require.Equal(t, ErrStopped, j.run(ctx, "build_script", "true"))
		require.NoError(t, j.run(t.Context(), "after_script", "echo never"))
		j.cleanup()
		for _, status := range s.jobs(t) {
			assert.Equal(t, "Stopped", status)
		}
	})

	t.Run("while the instance is pending", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, `[{"job":{"capacity":"pending"}}]`)
		j := s.job(t, 401, false, nil, nil)
		j.start(t.Context())
		require.Equal(t, ErrStopped, j.cancelAt("Created training job", func(ctx context.Context) error { return j.run(ctx, "build_script", "true") }))
		j.cleanup()
		assert.Len(t, s.jobs(t), 1)
	})

	t.Run("during the script, with an after_script to follow", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, true, []string{"out/"}, nil)
		j.start(t.Context())
		require.Equal(t, ErrStopped, j.cancelAt("running", func(ctx context.Context) error {
			return j.run(ctx, "build_script", "cd "+j.project()+"; mkdir out; echo 1 > out/f; trap 'echo last words; exit 1' TERM; echo running; sleep 300 & wait")
		}))
		assert.Contains(t, j.log.String(), "last words", "what the script wrote is still shown")
		require.NoError(t, j.run(t.Context(), "after_script", "cat "+j.project()+"/out/f; echo after"), j.log)
		assert.Contains(t, j.log.String(), "1\nafter")
		require.NoError(t, j.run(t.Context(), "upload_artifacts_on_failure", "true"), j.log)
		assert.Equal(t, "1\n", j.hostFile("out/f"))
		j.cleanup()
	})

	t.Run("during the script, and nothing follows", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, false, nil, nil)
		j.start(t.Context())
		require.Equal(t, ErrStopped, j.cancelAt("running", func(ctx context.Context) error {
			return j.run(ctx, "build_script", "echo running; sleep 300")
		}))
		j.cleanup()
		require.Len(t, s.jobs(t), 1)
		for _, status := range s.jobs(t) {
			assert.Equal(t, "Stopped", status)
		}
	})
}

// The process of the script's stage is killed; the runner goes on with the job's
// other stages.
func TestKilled(t *testing.T) {
	t.Parallel()
	const endless = "mkdir out; echo 1 > out/f; echo running; sleep 1000"
	t.Run("an after_script follows", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, true, []string{"out/"}, nil)
		j.start(t.Context())
		j.kill("running\n", "build_script", "cd "+j.project()+"; "+endless)
		require.NoError(t, j.run(t.Context(), "after_script", "cat "+j.project()+"/out/f; echo after"), j.log)
		assert.Contains(t, j.log.String(), "1\nafter\n")
		require.NoError(t, j.run(t.Context(), "upload_artifacts_on_failure", "true"), j.log)
		assert.Equal(t, "1\n", j.hostFile("out/f"))
		j.cleanup()
	})
	t.Run("artifacts follow", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, false, []string{"out/"}, nil)
		j.start(t.Context())
		j.kill("running\n", "build_script", "cd "+j.project()+"; "+endless)
		require.NoError(t, j.run(t.Context(), "upload_artifacts_on_failure", "true"), j.log)
		assert.Equal(t, "1\n", j.hostFile("out/f"))
		j.cleanup()
	})
	t.Run("nothing follows", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, "")
		j := s.job(t, 401, false, nil, nil)
		j.start(t.Context())
		j.kill("running\n", "build_script", endless)
		j.cleanup()
		require.Len(t, s.jobs(t), 1)
		for _, status := range s.jobs(t) {
			assert.Equal(t, "Stopped", status)
		}
	})
	t.Run("while the instance is pending", func(t *testing.T) {
		t.Parallel()
		s := newStack(t, `[{"job":{"capacity":"pending"}}]`)
		j := s.job(t, 401, true, []string{"out/"}, nil)
		j.start(t.Context())
		j.kill("Sent the project", "build_script", endless)
		require.NoError(t, j.run(t.Context(), "after_script", "echo never"), j.log)
		assert.Contains(t, j.log.String(), "after_script is skipped")
		require.NoError(t, j.run(t.Context(), "upload_artifacts_on_failure", "true"), j.log)
		assert.Contains(t, j.log.String(), "Nothing comes home")
		j.cleanup()
		for _, status := range s.jobs(t) {
			assert.Equal(t, "Stopped", status)
		}
	})
}

func TestStoppedFromOutside(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 401, true, []string{"out/"}, nil)
	j.start(t.Context())
	running := j.log.until("running")
	go func() {
		<-running
		for name := range s.jobs(t) {
			_, err := s.sagemaker.StopTrainingJob(context.Background(), &awssagemaker.StopTrainingJobInput{TrainingJobName: awssdk.String(name)})
			assert.NoError(t, err)
		}
	}()
	err := j.run(t.Context(), "build_script", "echo running; sleep 300")
	assert.Equal(t, "143", outcome(err), "%v\n%s", err, j.log)
	assert.ErrorContains(t, err, "stopped from outside")
	require.NoError(t, j.run(t.Context(), "after_script", "echo never"))
	require.NoError(t, j.run(t.Context(), "upload_artifacts_on_failure", "echo tried"))
	j.cleanup()
}

func TestCleanupNeedsNoState(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 401, true, nil, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "true"), j.log)
	require.NoError(t, os.RemoveAll(filepath.Join(s.work, "jobs")))
	j.cleanup()
	for _, status := range s.jobs(t) {
		assert.Equal(t, "Stopped", status)
	}
}

func TestCleanupOfAJobThatNeverBegan(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	s.job(t, 401, true, nil, nil).cleanup()
}

func TestCleanupLeavesOtherOwnersJobsAlone(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 401, true, nil, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "true"), j.log)
	// The intent of another job names this one's training job.
	other := s.job(t, 402, true, nil, nil)
	stage, err := open(other.stage())
	require.NoError(t, err)
	var name string
	for name = range s.jobs(t) {
	}
	intent, err := json.Marshal(exchange.Intent{Kind: "training", Name: name, Attempt: 1})
	require.NoError(t, err)
	_, err = s.s3.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: awssdk.String(testBucket), Key: awssdk.String(stage.keys(1).Intent()), Body: strings.NewReader(string(intent)),
	})
	require.NoError(t, err)
	require.NoError(t, Cleanup(t.Context(), other.stage()))
	assert.Contains(t, other.log.String(), "another owner")
	assert.Equal(t, map[string]string{name: "InProgress"}, s.jobs(t))
	j.cleanup()
}

func TestNothingSecretIsShownByDescribe(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 401, false, nil, map[string]string{"PASSWORD": "hunter2hunter2"})
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "build_script", "export PASSWORD=hunter2hunter2; env >/dev/null"), j.log)
	for name := range s.jobs(t) {
		d, err := s.sagemaker.DescribeTrainingJob(t.Context(), &awssagemaker.DescribeTrainingJobInput{TrainingJobName: awssdk.String(name)})
		require.NoError(t, err)
		tags, err := s.sagemaker.ListTags(t.Context(), &awssagemaker.ListTagsInput{ResourceArn: d.TrainingJobArn})
		require.NoError(t, err)
		shown, err := json.Marshal([]any{d, tags})
		require.NoError(t, err)
		assert.NotContains(t, string(shown), "hunter2hunter2")
		assert.NotContains(t, string(shown), "secret-token")
		all := map[string]string{}
		for _, tag := range tags.Tags {
			all[*tag.Key] = *tag.Value
		}
		assert.Equal(t, "401", all[sagemaker.TagJobID])
		assert.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus)
	}
	j.cleanup()
}

// The runner's scripts make the directory for temporary files only when there is
// something to put there.
func TestAProjectWithoutTemporaryFiles(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 402, false, []string{"out/"}, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "clear_worktree", "rmdir "+j.project()+".tmp"), j.log)
	require.NoError(t, j.run(t.Context(), "build_script", "cd "+j.project()+"; mkdir out; echo model > out/model"), j.log)
	assert.Equal(t, "model\n", j.hostFile("out/model"))
	j.cleanup()
}

// A project that cannot be sent costs no instance.
func TestAProjectThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newStack(t, "")
	j := s.job(t, 403, false, nil, nil)
	j.start(t.Context())
	require.NoError(t, j.run(t.Context(), "clear_worktree", "rm -r "+j.project()), j.log)
	require.ErrorContains(t, j.run(t.Context(), "build_script", "true"), j.project())
	assert.Empty(t, s.jobs(t))
	j.cleanup()
}
