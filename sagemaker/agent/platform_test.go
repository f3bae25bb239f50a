package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mlDir makes SageMaker's directory with configuration files.
func mlDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "input", "config")
	require.NoError(t, os.MkdirAll(config, 0o755))
	for name, content := range files {
		require.NoError(t, os.WriteFile(filepath.Join(config, name), []byte(content), 0o644))
	}
	return dir
}

func environment(t *testing.T, dir string, container []string, extra map[string]string) map[string]string {
	t.Helper()
	p, err := readPlatform(dir)
	require.NoError(t, err)
	env := map[string]string{}
	for _, kv := range p.environment(container, extra) {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	return env
}

func TestEnvironmentIsTheTrainingToolkits(t *testing.T) {
	t.Parallel()
	dir := mlDir(t, map[string]string{
		"resourceconfig.json": `{"current_host":"algo-2","hosts":["algo-1","algo-2"],"network_interface_name":"eth0",
			"current_instance_type":"ml.g5.xlarge","current_group_name":"homogeneousCluster",
			"instance_groups":[{"instance_group_name":"homogeneousCluster","instance_type":"ml.g5.xlarge","hosts":["algo-1","algo-2"]}]}`,
		"inputdataconfig.json": `{"train":{"TrainingInputMode":"File"},"my-set":{"TrainingInputMode":"FastFile"},"sagemaker-executor":{"TrainingInputMode":"File"}}`,
		"hyperparameters.json": `{"epochs":"10","learning-rate":"1e-3","name":"a b","quoted":"\"x\"","list":"[1,\"<&>\"]","flag":"true","sagemaker_program":"\"t.py\""}`,
	})
	env := environment(t, dir, []string{"PATH=/bin", "KEPT=a=b"}, map[string]string{"EXTRA": "1"})
	for name, want := range map[string]string{
		"PATH": "/bin", "KEPT": "a=b", "EXTRA": "1", "PYTHONUNBUFFERED": "1",
		"SM_MODEL_DIR": dir + "/model", "SM_INPUT_DIR": dir + "/input", "SM_INPUT_CONFIG_DIR": dir + "/input/config",
		"SM_OUTPUT_DIR": dir + "/output", "SM_OUTPUT_DATA_DIR": dir + "/output/data",
		"SM_OUTPUT_INTERMEDIATE_DIR": dir + "/output/intermediate",
		"SM_CHANNELS":                `["my-set","train"]`, "SM_CHANNEL_TRAIN": dir + "/input/data/train",
		"SM_CHANNEL_MY-SET": dir + "/input/data/my-set", "SM_CHANNEL_MY_SET": dir + "/input/data/my-set",
		"SM_HPS":       `{"epochs":10,"flag":true,"learning-rate":1e-3,"list":[1,"<&>"],"name":"a b","quoted":"x"}`,
		"SM_HP_EPOCHS": "10", "SM_HP_LEARNING-RATE": "1e-3", "SM_HP_LEARNING_RATE": "1e-3", "SM_HP_NAME": "a b",
		"SM_HP_QUOTED": "x", "SM_HP_LIST": `[1,"<&>"]`, "SM_HP_FLAG": "true",
		"SM_USER_ARGS":        `["--epochs","10","--flag","true","--learning-rate","1e-3","--list","[1,\"<&>\"]","--name","a b","--quoted","x"]`,
		"SM_FRAMEWORK_PARAMS": `{"sagemaker_program":"t.py"}`,
		"SM_HOSTS":            `["algo-1","algo-2"]`, "SM_CURRENT_HOST": "algo-2", "SM_NETWORK_INTERFACE_NAME": "eth0",
		"SM_CURRENT_INSTANCE_TYPE": "ml.g5.xlarge", "SM_CURRENT_INSTANCE_GROUP": "homogeneousCluster",
		"SM_CURRENT_INSTANCE_GROUP_HOSTS": `["algo-1","algo-2"]`, "SM_IS_HETERO": "false",
		"SM_NUM_CPUS": strconv.Itoa(runtime.NumCPU()), "SM_LOG_LEVEL": "20",
	} {
		assert.Equal(t, want, env[name], name)
	}
	for name, value := range env {
		assert.NotContains(t, name+value, "sagemaker-executor", "our own channel is not the job's")
		assert.NotContains(t, name, "SAGEMAKER_EXECUTOR")
	}
	var training map[string]any
	require.NoError(t, json.Unmarshal([]byte(env["SM_TRAINING_ENV"]), &training))
	assert.Equal(t, "algo-2", training["current_host"])
	var resource map[string]any
	require.NoError(t, json.Unmarshal([]byte(env["SM_RESOURCE_CONFIG"]), &resource))
	assert.Equal(t, "eth0", resource["network_interface_name"])
}

func TestEnvironmentWithoutConfiguration(t *testing.T) {
	t.Parallel()
	env := environment(t, t.TempDir(), []string{"PYTHONUNBUFFERED="}, nil)
	assert.Equal(t, `["algo-1"]`, env["SM_HOSTS"])
	assert.Equal(t, "{}", env["SM_HPS"])
	assert.Equal(t, "[]", env["SM_CHANNELS"])
	assert.Equal(t, "{}", env["SM_RESOURCE_CONFIG"])
	assert.Empty(t, env["PYTHONUNBUFFERED"], "the image's own choice stays")
}

func TestBadConfigurationIsAnError(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"not JSON": "{", "a host that is a path": `{"current_host":"../algo-1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readPlatform(mlDir(t, map[string]string{"resourceconfig.json": content}))
			require.ErrorContains(t, err, "resourceconfig.json")
		})
	}
}
