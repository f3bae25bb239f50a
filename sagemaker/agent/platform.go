package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"gitlab.com/sagemaker-executor/sagemaker-executor/sagemaker/exchange"
)

// platform is what SageMaker tells a container in its configuration files.
type platform struct {
	dir      string // /opt/ml
	resource resourceConfig
	raw      map[string]json.RawMessage // resourceconfig.json, as it is
	channels map[string]json.RawMessage // inputdataconfig.json
	hps      map[string]string          // hyperparameters.json
	gpus     int
	neurons  int
}

type resourceConfig struct {
	CurrentHost      string   `json:"current_host"`
	Hosts            []string `json:"hosts"`
	Interface        string   `json:"network_interface_name"`
	InstanceType     string   `json:"current_instance_type"`
	CurrentGroupName string   `json:"current_group_name"`
	InstanceGroups   []struct {
		Name  string   `json:"instance_group_name"`
		Type  string   `json:"instance_type"`
		Hosts []string `json:"hosts"`
	} `json:"instance_groups"`
}

// agentChannel is sagemaker.AgentChannel, which is not imported for its size.
const agentChannel = "sagemaker-executor"

var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

// readPlatform reads input/config below SageMaker's directory. Files that are
// missing count as empty.
func readPlatform(dir string) (*platform, error) {
	p := &platform{dir: dir}
	for name, v := range map[string]any{
		"resourceconfig.json": &p.raw, "inputdataconfig.json": &p.channels, "hyperparameters.json": &p.hps,
	} {
		if err := readConfig(filepath.Join(dir, "input", "config", name), v); err != nil {
			return nil, err
		}
	}
	if err := readConfig(filepath.Join(dir, "input", "config", "resourceconfig.json"), &p.resource); err != nil {
		return nil, err
	}
	p.resource.CurrentHost = cmp.Or(p.resource.CurrentHost, exchange.FirstHost)
	if !hostName.MatchString(p.resource.CurrentHost) {
		return nil, fmt.Errorf("resourceconfig.json: the host's name %q is none", p.resource.CurrentHost)
	}
	if len(p.resource.Hosts) == 0 {
		p.resource.Hosts = []string{p.resource.CurrentHost}
	}
	// The channel that brought the agent is none of the job's.
	delete(p.channels, agentChannel)
	p.gpus, p.neurons = countDevices("nvidia"), countDevices("neuron")
	return p, nil
}

func readConfig(file string, v any) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read SageMaker's configuration: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read SageMaker's configuration %s: %w", file, err)
	}
	return nil
}

// countDevices counts /dev/NAME0, /dev/NAME1, ...
func countDevices(name string) int {
	found, _ := filepath.Glob("/dev/" + name + "[0-9]*")
	return len(found)
}

func (p *platform) host() string { return p.resource.CurrentHost }

// environment is the container's, with what users of the SageMaker training
// toolkit know (sagemaker_training/environment.py), and extra on top.
func (p *platform) environment(container []string, extra map[string]string) []string {
	env := map[string]string{}
	for _, kv := range container {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	if _, ok := env["PYTHONUNBUFFERED"]; !ok {
		env["PYTHONUNBUFFERED"] = "1"
	}
	training := p.training()
	for k, v := range training {
		env["SM_"+strings.ToUpper(k)] = envValue(v)
	}
	env["SM_TRAINING_ENV"] = envValue(training)
	for channel, dir := range training["channel_input_dirs"].(map[string]string) {
		setVariants(env, "SM_CHANNEL_"+strings.ToUpper(channel), dir)
	}
	for name, v := range training["hyperparameters"].(map[string]any) {
		setVariants(env, "SM_HP_"+strings.ToUpper(name), envValue(v))
	}
	// The toolkit calls these by other names in SM_TRAINING_ENV and outside.
	env["SM_HPS"] = env["SM_HYPERPARAMETERS"]
	env["SM_CHANNELS"] = envValue(append([]string{}, slices.Sorted(maps.Keys(p.channels))...))
	delete(env, "SM_HYPERPARAMETERS")
	delete(env, "SM_CHANNEL_INPUT_DIRS")
	maps.Copy(env, extra)
	out := make([]string, 0, len(env))
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

var notInName = regexp.MustCompile(`[^A-Za-z0-9_]`)

// setVariants sets a variable under the toolkit's name and, where that is no
// name to a shell, with underscores as well.
func setVariants(env map[string]string, name, value string) {
	env[name] = value
	env[notInName.ReplaceAllString(name, "_")] = value
}

// training is the toolkit's SM_TRAINING_ENV.
func (p *platform) training() map[string]any {
	r := p.resource
	hps, framework, args := map[string]any{}, map[string]any{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(p.hps)) {
		v := decodeParameter(p.hps[name])
		if strings.HasPrefix(name, "sagemaker_") {
			framework[name] = v
			continue
		}
		hps[name] = v
		args = append(args, "--"+name, envValue(v))
	}
	channels := map[string]string{}
	for name := range p.channels {
		channels[name] = filepath.Join(p.dir, "input", "data", name)
	}
	t := map[string]any{
		"model_dir": filepath.Join(p.dir, "model"), "input_dir": filepath.Join(p.dir, "input"),
		"input_config_dir": filepath.Join(p.dir, "input", "config"), "output_dir": filepath.Join(p.dir, "output"),
		"output_data_dir":         filepath.Join(p.dir, "output", "data"),
		"output_intermediate_dir": filepath.Join(p.dir, "output", "intermediate"),
		"hosts":                   r.Hosts, "current_host": r.CurrentHost, "master_hostname": r.Hosts[0],
		"is_master":              r.CurrentHost == r.Hosts[0],
		"network_interface_name": r.Interface, "current_instance_type": r.InstanceType,
		"current_instance_group": r.CurrentGroupName,
		"num_cpus":               runtime.NumCPU(), "num_gpus": p.gpus, "num_neurons": p.neurons, "log_level": 20,
		"hyperparameters": hps, "framework_params": framework, "user_args": args,
		"channel_input_dirs": channels, "resource_config": orEmpty(p.raw), "input_data_config": orEmpty(p.channels),
	}
	groups, types := []string{}, map[string]any{}
	for _, g := range r.InstanceGroups {
		groups = append(groups, g.Name)
		types[g.Name] = g
		if g.Name == r.CurrentGroupName {
			t["current_instance_group_hosts"] = g.Hosts
		}
	}
	t["instance_groups"], t["instance_groups_dict"], t["is_hetero"] = groups, types, len(groups) > 1
	return t
}

func orEmpty(m map[string]json.RawMessage) map[string]json.RawMessage {
	if m == nil {
		return map[string]json.RawMessage{}
	}
	return m
}

// decodeParameter is a hyperparameter's value: SageMaker passes strings, which
// hold JSON when the SDK wrote them.
func decodeParameter(s string) any {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil || d.More() || v == nil {
		return s
	}
	return v
}

// envValue writes a value as the toolkit does: text as it is, the rest as
// compact JSON.
func envValue(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int:
		return strconv.Itoa(v)
	case json.Number:
		return v.String()
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSuffix(b.String(), "\n")
}
