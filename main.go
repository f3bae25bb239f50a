// Command sagemaker-executor runs GitLab CI jobs inside AWS SageMaker. It is a
// custom executor of GitLab Runner, the agent that runs in the SageMaker
// container, and a local SageMaker to try both without an AWS account.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "sagemaker-executor: no command is wired up yet")
	os.Exit(2)
}
