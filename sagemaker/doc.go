// Package sagemaker is AWS's side of the executor: it names, creates, watches
// and stops SageMaker training jobs. It knows nothing of GitLab Runner; what
// belongs to whom is said by an Owner, and progress is told to a Reporter.
//
// One file holds one capability:
//
//	client.go     the SageMaker client: retries and the host-wide rate limit
//	limit.go      that rate limit, shared by all processes of a host
//	names.go      names, tags, and whose a job is
//	binary.go     the agent's binary in S3, and how a container starts it
//	training.go   create: preference list, capacity, quota
//	watch.go      a job's life: status changes, contact, the end
//	classify.go   what a job's end means
//	logs.go       CloudWatch, where there is no log of the agent's
//	links.go      where a human looks
package sagemaker
