package sagemaker

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"time"
)

// Training job statuses and secondary statuses, as DescribeTrainingJob documents them.
const (
	statusInProgress = "InProgress"
	statusCompleted  = "Completed"
	statusFailed     = "Failed"
	statusStopping   = "Stopping"
	statusStopped    = "Stopped"

	secondaryStarting    = "Starting"
	secondaryPending     = "Pending"
	secondaryDownloading = "Downloading"
	secondaryTraining    = "Training"
	secondaryUploading   = "Uploading"
	secondaryStopping    = "Stopping"
	secondaryInterrupted = "Interrupted"
	secondaryRestarting  = "Restarting"
	secondaryMaxRuntime  = "MaxRuntimeExceeded"
	secondaryMaxWait     = "MaxWaitTimeExceeded"
)

// Status messages, in the order and the words in which users see them.
const (
	messageStarting    = "Starting the training job"
	messageCapacity    = "Training job waiting for capacity"
	messagePreparing   = "Preparing the instances for training"
	messageInput       = "Downloading input data"
	messageImage       = "Downloading the training image"
	messageTraining    = "Training image download completed. Training in progress."
	messageUploading   = "Uploading generated training model"
	messageCompleted   = "Training job completed"
	messageFailed      = "Training job failed"
	messageStopping    = "Stopping the training job"
	messageStopped     = "Training job stopped"
	messageInterrupted = "Training job interrupted"
	messageRestarting  = "Restarting the training job"
	messageMaxRuntime  = "Training job runtime exceeded MaxRuntimeInSeconds provided"
	messageMaxWait     = "Training job exceeded MaxWaitTimeInSeconds provided"
)

// epoch is a time in AWS's JSON: seconds since 1970 with milliseconds.
type epoch time.Time

// MarshalJSON implements json.Marshaler.
func (e epoch) MarshalJSON() ([]byte, error) {
	return []byte(strconv.FormatFloat(float64(time.Time(e).UnixMilli())/1000, 'f', 3, 64)), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *epoch) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return err
	}
	*e = epoch(time.UnixMilli(int64(math.Round(f * 1000))))
	return nil
}

func (e epoch) time() time.Time { return time.Time(e) }

// Tag is a tag of a resource.
type Tag struct {
	Key   string
	Value string
}

type transition struct {
	Status        string
	StartTime     epoch
	EndTime       *epoch `json:",omitempty"`
	StatusMessage string
}

type metricData struct {
	MetricName string
	Value      float64
	Timestamp  epoch
}

type warmPoolStatus struct {
	Status                                string
	ResourceRetainedBillableTimeInSeconds *int   `json:",omitempty"`
	ReusedByJob                           string `json:",omitempty"`
}

// record is what is kept of a job, on disk too.
type record struct {
	Name          string
	ARN           string
	Request       object // CreateTrainingJob's members as sent, without name and tags
	Tags          []Tag
	Status        string
	Secondary     string
	Transitions   []transition
	Created       epoch
	Modified      epoch
	Started       *epoch       `json:",omitempty"` // TrainingStartTime
	Ended         *epoch       `json:",omitempty"` // TrainingEndTime
	FailureReason string       `json:",omitempty"`
	Model         string       `json:",omitempty"` // S3ModelArtifacts
	Training      int          `json:",omitempty"` // TrainingTimeInSeconds
	Billable      int          `json:",omitempty"` // BillableTimeInSeconds
	Metrics       []metricData `json:",omitempty"`
	WarmPool      *warmPoolStatus
}

func (r *record) terminal() bool {
	return r.Status == statusCompleted || r.Status == statusFailed || r.Status == statusStopped
}

// clone is a deep copy of a JSON object.
func clone(v any) any {
	switch v := v.(type) {
	case object:
		c := make(object, len(v))
		for k, e := range v {
			c[k] = clone(e)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = clone(e)
		}
		return c
	}
	return v
}

// describe is DescribeTrainingJob's answer: the request, what AWS fills in
// (recorded answers of the real service: cloud-custodian's test data), and the
// state. What is absent is left out: AWS's own clients send an empty member
// back and are refused.
func (r *record) describe() object {
	d := clone(r.Request).(object)
	delete(d, "SessionChainingConfig")
	fillIn(d)
	maps.Copy(d, object{
		"TrainingJobName":            r.Name,
		"TrainingJobArn":             r.ARN,
		"TrainingJobStatus":          r.Status,
		"SecondaryStatus":            r.Secondary,
		"SecondaryStatusTransitions": r.Transitions,
		"CreationTime":               r.Created,
		"LastModifiedTime":           r.Modified,
	})
	if r.Started != nil {
		d["TrainingStartTime"] = *r.Started
	}
	if r.Ended != nil {
		d["TrainingEndTime"] = *r.Ended
	}
	if r.FailureReason != "" {
		d["FailureReason"] = r.FailureReason
	}
	if r.Model != "" {
		d["ModelArtifacts"] = object{"S3ModelArtifacts": r.Model}
	}
	if r.Training > 0 {
		d["TrainingTimeInSeconds"] = r.Training
		d["BillableTimeInSeconds"] = r.Billable
	}
	if len(r.Metrics) > 0 {
		d["FinalMetricDataList"] = r.Metrics
	}
	if r.WarmPool != nil {
		d["WarmPoolStatus"] = r.WarmPool
	}
	return d
}

func fillIn(d object) {
	setDefault := func(o object, k string, v any) {
		if _, ok := o[k]; !ok {
			o[k] = v
		}
	}
	for _, k := range []string{"EnableNetworkIsolation", "EnableInterContainerTrafficEncryption", "EnableManagedSpotTraining"} {
		setDefault(d, k, false)
	}
	if a, ok := d["AlgorithmSpecification"].(object); ok {
		setDefault(a, "EnableSageMakerMetricsTimeSeries", false)
	}
	if o, ok := d["OutputDataConfig"].(object); ok {
		setDefault(o, "KmsKeyId", "")
		setDefault(o, "CompressionType", "GZIP")
	}
	setDefault(d, "StoppingCondition", object{})
	if c, ok := d["StoppingCondition"].(object); ok {
		setDefault(c, "MaxRuntimeInSeconds", defaultMaxRuntime)
	}
	channels, _ := d["InputDataConfig"].([]any)
	for _, c := range channels {
		c, ok := c.(object)
		if !ok {
			continue
		}
		setDefault(c, "CompressionType", "None")
		setDefault(c, "RecordWrapperType", "None")
		if source, ok := c["DataSource"].(object); ok {
			if s3, ok := source["S3DataSource"].(object); ok {
				setDefault(s3, "S3DataDistributionType", "FullyReplicated")
			}
		}
	}
	if rc, ok := d["ResourceConfig"].(object); ok {
		if preferences, ok := rc["InstancePreferences"].([]any); ok && len(preferences) > 0 {
			if first, ok := preferences[0].(object); ok {
				setDefault(rc, "SelectedInstanceType", first["InstanceType"])
				if count, ok := first["InstanceCount"]; ok {
					setDefault(rc, "SelectedInstanceCount", count)
				}
			}
		}
	}
	setDefault(d, "ProfilingStatus", "Disabled")
	if p, ok := d["ProfilerConfig"].(object); ok && p["DisableProfiler"] != true {
		d["ProfilingStatus"] = "Enabled"
	}
}

func (r *record) summary() object {
	s := object{
		"TrainingJobName":   r.Name,
		"TrainingJobArn":    r.ARN,
		"CreationTime":      r.Created,
		"LastModifiedTime":  r.Modified,
		"TrainingJobStatus": r.Status,
		"SecondaryStatus":   r.Secondary,
	}
	if r.Ended != nil {
		s["TrainingEndTime"] = *r.Ended
	}
	if r.WarmPool != nil {
		s["WarmPoolStatus"] = r.WarmPool
	}
	if rc, ok := r.Request["ResourceConfig"].(object); ok {
		if plan, ok := rc["TrainingPlanArn"]; ok {
			s["TrainingPlanArn"] = plan
		}
	}
	return s
}

// typed reads the request's members that the platform acts on.
func typed(request object) (*trainingRequest, error) {
	b, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	t := new(trainingRequest)
	if err := json.Unmarshal(b, t); err != nil {
		return nil, err
	}
	return t, nil
}
