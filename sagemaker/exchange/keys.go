package exchange

import (
	"fmt"
	"path"
	"strings"
)

// FirstHost is the name SageMaker gives to the first instance of a job: the
// one whose output is the job log and whose files come home.
const FirstHost = "algo-1"

// JobPrefix is the prefix of one attempt of a job, with a slash at its end.
// It is laid out for IAM: an execution role per project and protection can be
// held to everything up to the protection.
func JobPrefix(prefix, instance string, project int64, protection string, jobID int64, attempt int) string {
	return fmt.Sprintf("%s%d/", AttemptsPrefix(prefix, instance, project, protection, jobID), attempt)
}

// AttemptsPrefix is what the prefixes of all attempts of a job begin with. It
// ends in a dash, so that job 1 is not taken for job 10.
func AttemptsPrefix(prefix, instance string, project int64, protection string, jobID int64) string {
	return path.Join(prefix, "jobs", instance, fmt.Sprint(project), protection, fmt.Sprint(jobID)) + "-"
}

// BinaryKey is where the agent's binary with this SHA-256 (hexadecimal) lies.
// Execution roles may read below prefix/bin and not write.
func BinaryKey(prefix, sha256 string) string {
	return path.Join(prefix, "bin", sha256, "sagemaker-executor")
}

// Keys names the objects of one attempt of a job.
type Keys struct {
	// Prefix is the attempt's prefix, as JobPrefix makes it.
	Prefix string
}

func (k Keys) key(format string, args ...any) string {
	return strings.TrimSuffix(k.Prefix, "/") + "/" + fmt.Sprintf(format, args...)
}

// All is the prefix of everything that belongs to the attempt.
func (k Keys) All() string { return k.key("") }

// Intent holds the Intent.
func (k Keys) Intent() string { return k.key("intent.json") }

// Job holds the Job.
func (k Keys) Job() string { return k.key("job.json") }

// Workspace holds the project directory and its .tmp sibling.
func (k Keys) Workspace() string { return k.key("workspace.tar.zst") }

// Steps is the prefix of all steps.
func (k Keys) Steps() string { return k.key("steps/") }

// Step holds the Step with this number, counted from 1.
func (k Keys) Step(n int) string { return k.key("steps/%04d.json", n) }

// Cancel exists if the script of step n is to be stopped.
func (k Keys) Cancel(n int) string { return k.key("steps/%04d.cancel", n) }

// Script holds the script of step n.
func (k Keys) Script(n int, stage string) string { return k.key("scripts/%04d-%s", n, stage) }

// ExecutorBeat holds the executor's Beat.
func (k Keys) ExecutorBeat() string { return k.key("beat/executor") }

// AgentBeat holds the Beat of the agent on a host.
func (k Keys) AgentBeat(host string) string { return k.key("beat/agent/%s", host) }

// Incarnation is claimed by the agent of a host at its n-th start, counted
// from 1: a managed spot job that was interrupted starts again.
func (k Keys) Incarnation(host string, n int) string { return k.key("incarnation/%s/%d", host, n) }

// Logs is the prefix of all output.
func (k Keys) Logs() string { return k.key("log/") }

// LogKept exists if the log is to outlive the exchange, because the job log
// does not show all of it.
func (k Keys) LogKept() string { return k.key("log/kept") }

// StepLog is the prefix of the output of one step.
func (k Keys) StepLog(host string, incarnation, step int) string {
	return k.key("log/%s/%d/%04d/", host, incarnation, step)
}

// Chunk holds a piece of the output of one step; chunks count from 0.
func (k Keys) Chunk(host string, incarnation, step, chunk int) string {
	return k.key("log/%s/%d/%04d/%08d", host, incarnation, step, chunk)
}

// Result holds the Result of a step on a host.
func (k Keys) Result(step int, host string) string { return k.key("result/%04d/%s.json", step, host) }

// FinishAck exists once the first host's agent has read the finish step.
func (k Keys) FinishAck() string { return k.key("finish.ack") }

// Outputs holds the files that come home.
func (k Keys) Outputs() string { return k.key("outputs.tar.zst") }

// OutputsInfo holds the OutputsInfo, written after Outputs.
func (k Keys) OutputsInfo() string { return k.key("outputs.json") }

// Collected exists once the outputs are home.
func (k Keys) Collected() string { return k.key("collected") }
