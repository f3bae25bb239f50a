package sagemaker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/sagemaker/container"
)

const (
	optML            = "/opt/ml"
	networkInterface = "lo" // hosts talk over loopback addresses
	caBundlePath     = "/etc/sagemaker-local/ca-bundle.pem"
)

// host is one instance of a job: algo-1 and so on.
type host struct {
	name    string
	index   int // among all hosts, from 0
	group   instanceGroup
	address string
	dir     string // scratch space: ml (its directories lie in /opt/ml), fastfile, checkpoints, system

	checkpoints *checkpoints // nil without CheckpointConfig
}

func (h *host) ml(elem ...string) string {
	return filepath.Join(append([]string{h.dir, "ml"}, elem...)...)
}

// newHosts lays the job's instances out.
func (r *run) newHosts() {
	index := 0
	for _, g := range r.req.ResourceConfig.groups() {
		for range g.InstanceCount {
			name := fmt.Sprintf("algo-%d", index+1)
			r.hosts = append(r.hosts, &host{
				name: name, index: index, group: g,
				address: r.s.nextAddress(),
				dir:     filepath.Join(r.jobDir(), name),
			})
			index++
		}
	}
}

// loopbackHosts is the number of addresses in 127.64.0.0/10, less the first.
const loopbackHosts = 1<<22 - 1

// nextAddress gives every host a loopback address of its own, so that two jobs
// can listen on the same port of "algo-1". Where a server begins is random:
// another server on this machine does the same.
func (s *Service) nextAddress() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = (s.addresses + 1) % loopbackHosts
	n := s.addresses + 1
	return fmt.Sprintf("127.%d.%d.%d", 64|n>>16, n>>8&0xff, n&0xff)
}

// prepareHosts makes /opt/ml of every host: directories, configuration,
// channels and checkpoints.
func (r *run) prepareHosts(ctx context.Context) error {
	r.newHosts()
	for _, h := range r.hosts {
		if err := r.layOut(h); err != nil {
			return fmt.Errorf("lay out %s: %w", h.name, err)
		}
		if err := r.writeConfig(h); err != nil {
			return fmt.Errorf("configure %s: %w", h.name, err)
		}
		if err := r.downloadChannels(ctx, h); err != nil {
			return err
		}
		if err := r.downloadCheckpoints(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// layOut makes the directories. What training writes is open to any user: an
// image's USER need not be root.
func (r *run) layOut(h *host) error {
	for _, d := range []string{"input/config", "input/data", "model", "output/data"} {
		if err := os.MkdirAll(h.ml(d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"system", "fastfile"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			return err
		}
	}
	for _, d := range []string{"input", "input/data", "model", "output", "output/data"} {
		if err := os.Chmod(h.ml(d), 0o777); err != nil {
			return err
		}
	}
	return nil
}

// writeConfig writes /opt/ml/input/config, as the training toolkit documents it.
func (r *run) writeConfig(h *host) error {
	hyper := r.req.HyperParameters
	if hyper == nil {
		hyper = map[string]string{}
	}
	inputs := object{}
	for i := range r.req.InputDataConfig {
		c := &r.req.InputDataConfig[i]
		if !c.on(h) {
			continue
		}
		distribution := c.DataSource.S3DataSource.S3DataDistributionType
		if distribution == "" {
			distribution = fullyReplicated
		}
		inputs[c.ChannelName] = object{
			"TrainingInputMode": r.req.mode(c), "S3DistributionType": distribution, "RecordWrapperType": "None",
		}
	}
	var groups []object
	for _, g := range r.req.ResourceConfig.groups() {
		var names []string
		for _, o := range r.hosts {
			if o.group.InstanceGroupName == g.InstanceGroupName {
				names = append(names, o.name)
			}
		}
		groups = append(groups, object{"instance_group_name": g.InstanceGroupName, "instance_type": g.InstanceType, "hosts": names})
	}
	var names []string
	for _, o := range r.hosts {
		names = append(names, o.name)
	}
	for file, content := range map[string]any{
		"hyperparameters.json": hyper,
		"inputdataconfig.json": inputs,
		"resourceconfig.json": object{
			"current_host": h.name, "current_instance_type": h.group.InstanceType,
			"current_group_name": h.group.InstanceGroupName,
			"hosts":              names, "instance_groups": groups, "network_interface_name": networkInterface,
		},
	} {
		b, err := json.Marshal(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(h.ml("input/config", file), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// spec is the container of a host.
func (r *run) spec(h *host, output *os.File) (container.Spec, error) {
	a := &r.req.AlgorithmSpecification
	spec := container.Spec{
		Image:      a.TrainingImage,
		Entrypoint: a.ContainerEntrypoint,
		Args:       a.ContainerArguments,
		DefaultArg: defaultContainerArg,
		Env:        r.environment(),
		Hostname:   h.name,
		Hosts:      map[string]string{"localhost": "127.0.0.1"},
		Scratch:    filepath.Join(h.dir, "system"),
		Memory:     r.limits.memory(h.group.InstanceType),
		Isolated:   r.req.EnableNetworkIsolation,
		Output:     output,
	}
	for _, o := range r.hosts {
		spec.Hosts[o.name] = o.address
	}
	// Not /opt/ml as a whole: /opt/ml/code is the image's.
	for _, d := range []string{"input", "model", "output"} {
		spec.Mounts = append(spec.Mounts, container.Mount{Source: h.ml(d), Target: optML + "/" + d})
	}
	for i := range r.req.InputDataConfig {
		c := &r.req.InputDataConfig[i]
		if c.on(h) && r.req.mode(c) == modeFastFile {
			spec.Mounts = append(spec.Mounts, container.Mount{
				Source: filepath.Join(h.dir, "fastfile", c.ChannelName), Target: optML + "/input/data/" + c.ChannelName, ReadOnly: true,
			})
		}
	}
	if h.checkpoints != nil {
		spec.Mounts = append(spec.Mounts, container.Mount{Source: h.checkpoints.dir, Target: r.req.checkpointPath()})
	}
	if r.s.opts.CABundle != "" {
		pem, err := os.ReadFile(r.s.opts.CABundle)
		if err != nil {
			return spec, fmt.Errorf("read the authority of the local endpoint: %w", err)
		}
		spec.Files = map[string][]byte{caBundlePath: pem}
		spec.Trust = pem
	}
	return spec, nil
}

// environment is what the platform sets, and over it what the request says.
func (r *run) environment() []string {
	env := map[string]string{
		"TRAINING_JOB_NAME":  r.j.Name,
		"TRAINING_JOB_ARN":   r.j.ARN,
		"AWS_REGION":         r.s.opts.Region,
		"AWS_DEFAULT_REGION": r.s.opts.Region,
	}
	if r.s.opts.EndpointURL != nil {
		env["AWS_ENDPOINT_URL"] = r.s.opts.EndpointURL()
	}
	if r.credentials != "" {
		env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = r.credentials
	}
	if r.s.opts.CABundle != "" {
		env["AWS_CA_BUNDLE"] = caBundlePath
	}
	for k, v := range r.req.Environment {
		env[k] = v
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}
