// Package exchange is the wire format between the executor on the runner host
// and the agent in the SageMaker container: the S3 keys below one job
// attempt's prefix and the JSON documents in them. It is the only package that
// knows the keys.
//
// One attempt of a job has one prefix. Below it:
//
//	intent.json            executor: written before CreateTrainingJob, names the job
//	job.json               executor: what to run, where, what to bring back
//	workspace.tar.zst      executor: the project directory and its .tmp sibling
//	steps/NNNN.json        executor: the next command to the agent, numbered from 1
//	steps/NNNN.cancel      executor: stop the script of step NNNN
//	scripts/NNNN-STAGE     executor: the script of step NNNN, byte for byte
//	beat/executor          executor: renewed while a stage runs
//	beat/agent/HOST        agent: renewed while it lives
//	incarnation/HOST/N     agent: claimed with If-None-Match at each start
//	log/HOST/N/STEP/CHUNK  agent: raw output, numbered from 0 without gaps
//	result/NNNN/HOST.json  agent: how the script ended and how many chunks of log it has
//	finish.ack             agent: it has read the finish step
//	outputs.tar.zst        agent: the files that artifacts and caches need
//	outputs.json           agent: what outputs.tar.zst holds, or why it does not exist
//	collected              executor: the outputs are home
//
// Every key has one writer. S3 is strongly consistent, so a reader that finds a
// document finds everything that its writer wrote before it.
package exchange
