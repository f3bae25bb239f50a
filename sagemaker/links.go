package sagemaker

import (
	"net/url"
	"strings"
)

// logGroup is where SageMaker puts what training containers print.
const logGroup = "/aws/sagemaker/TrainingJobs"

// consoleHost is the console's host name in the region's partition.
func consoleHost(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return region + ".console.amazonaws.cn"
	case strings.HasPrefix(region, "us-gov-"):
		return region + ".console.amazonaws-us-gov.com"
	default:
		return region + ".console.aws.amazon.com"
	}
}

// ConsoleURL is a training job's page in the console.
func ConsoleURL(region, name string) string {
	return "https://" + consoleHost(region) + "/sagemaker/home?region=" + region + "#/jobs/" + name
}

// LogsURL is the CloudWatch page with a training job's log streams. The
// console wants its fragment escaped twice, with $ for %.
func LogsURL(region, name string) string {
	twice := func(s string) string {
		return strings.ReplaceAll(url.QueryEscape(url.QueryEscape(s)), "%", "$")
	}
	return "https://" + consoleHost(region) + "/cloudwatch/home?region=" + region +
		"#logsV2:log-groups/log-group/" + twice(logGroup) + "$3FlogStreamNameFilter$3D" + twice(name+"/")
}

// QuotasURL is the Service Quotas page of SageMaker.
func QuotasURL(region string) string {
	return "https://" + consoleHost(region) + "/servicequotas/home/services/sagemaker/quotas?region=" + region
}
