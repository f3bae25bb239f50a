// Package logs is a CloudWatch Logs for one machine: log groups and streams in
// a directory, read and written in constant memory whatever their length.
//
// Events keep the order in which they arrived; AWS sorts them by time, which is
// the same for a writer whose clock does not jump.
package logs

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"

	"gitlab.com/sagemaker-executor/sagemaker-executor/local/aws/rpc"
)

// Options configure a Service.
type Options struct {
	Dir     string           // where groups lie; made if missing
	Region  string           // in ARNs; default us-east-1
	Account string           // in ARNs; default 123456789012
	Now     func() time.Time // default time.Now
}

// Service is the CloudWatch Logs of one account and region.
type Service struct {
	opts  Options
	store *store
	http.Handler
}

// New opens the groups under opts.Dir.
func New(opts Options) (*Service, error) {
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	st, err := openStore(opts.Dir, opts.Now)
	if err != nil {
		return nil, err
	}
	s := &Service{opts: opts, store: st}
	s.Handler = rpc.Handler(map[string]rpc.Func{
		"CreateLogGroup":        rpc.Op(s.createLogGroup),
		"DeleteLogGroup":        rpc.Op(s.deleteLogGroup),
		"DescribeLogGroups":     rpc.Op(s.describeLogGroups),
		"PutRetentionPolicy":    rpc.Op(s.putRetentionPolicy),
		"DeleteRetentionPolicy": rpc.Op(s.deleteRetentionPolicy),
		"CreateLogStream":       rpc.Op(s.createLogStream),
		"DeleteLogStream":       rpc.Op(s.deleteLogStream),
		"DescribeLogStreams":    rpc.Op(s.describeLogStreams),
		"PutLogEvents":          rpc.Op(s.putLogEvents),
		"GetLogEvents":          rpc.Op(s.getLogEvents),
		"FilterLogEvents":       rpc.Op(s.filterLogEvents),
		"TagResource":           rpc.Op(s.tagResource),
		"UntagResource":         rpc.Op(s.untagResource),
		"ListTagsForResource":   rpc.Op(s.listTagsForResource),
		"TagLogGroup":           rpc.Op(s.tagLogGroup),
		"UntagLogGroup":         rpc.Op(s.untagLogGroup),
		"ListTagsLogGroup":      rpc.Op(s.listTagsLogGroup),
	})
	return s, nil
}

func invalid(format string, args ...any) error {
	return rpc.Errorf("InvalidParameterException", format, args...)
}

func (s *Service) groupARN(name string) string {
	return "arn:aws:logs:" + s.opts.Region + ":" + s.opts.Account + ":log-group:" + name
}

// groupRef names a group by name or by ARN: exactly one is given.
type groupRef struct {
	LogGroupName       string `json:"logGroupName"`
	LogGroupIdentifier string `json:"logGroupIdentifier"`
}

func (r groupRef) name() (string, error) {
	switch {
	case r.LogGroupName != "" && r.LogGroupIdentifier != "":
		return "", invalid("LogGroup name and LogGroup identifier cannot be both set.")
	case r.LogGroupName != "":
		return r.LogGroupName, nil
	case r.LogGroupIdentifier != "":
		return nameOf(r.LogGroupIdentifier), nil
	}
	return "", invalid("Either LogGroup name or LogGroup identifier must be set.")
}

// nameOf returns the name in a log group's ARN, or the name itself.
func nameOf(identifier string) string {
	if _, name, ok := strings.Cut(identifier, ":log-group:"); ok {
		return strings.TrimSuffix(name, ":*")
	}
	return identifier
}

func (s *Service) find(r groupRef) (*group, error) {
	name, err := r.name()
	if err != nil {
		return nil, err
	}
	return s.store.group(name)
}

type nothing struct{}

type createLogGroupInput struct {
	LogGroupName string            `json:"logGroupName"`
	KMSKeyID     string            `json:"kmsKeyId"`
	Tags         map[string]string `json:"tags"`
}

func (s *Service) createLogGroup(_ context.Context, in *createLogGroupInput) (*nothing, error) {
	_, err := s.store.createGroup(groupInfo{Name: in.LogGroupName, KMSKey: in.KMSKeyID, Tags: in.Tags})
	return nil, err
}

func (s *Service) deleteLogGroup(_ context.Context, in *groupRef) (*nothing, error) {
	return nil, s.store.deleteGroup(in.LogGroupName)
}

type describeLogGroupsInput struct {
	LogGroupNamePrefix  string `json:"logGroupNamePrefix"`
	LogGroupNamePattern string `json:"logGroupNamePattern"`
	Limit               int    `json:"limit"`
	NextToken           string `json:"nextToken"`
}

type logGroup struct {
	LogGroupName      string `json:"logGroupName"`
	CreationTime      int64  `json:"creationTime"`
	RetentionInDays   int    `json:"retentionInDays,omitempty"`
	MetricFilterCount int    `json:"metricFilterCount"`
	ARN               string `json:"arn"`
	LogGroupARN       string `json:"logGroupArn"`
	StoredBytes       int64  `json:"storedBytes"`
	KMSKeyID          string `json:"kmsKeyId,omitempty"`
	LogGroupClass     string `json:"logGroupClass"`
}

type describeLogGroupsOutput struct {
	LogGroups []logGroup `json:"logGroups"`
	NextToken string     `json:"nextToken,omitempty"`
}

func (s *Service) describeLogGroups(_ context.Context, in *describeLogGroupsInput) (*describeLogGroupsOutput, error) {
	if in.LogGroupNamePrefix != "" && in.LogGroupNamePattern != "" {
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	after, err := decodeToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	limit := limitOr(in.Limit, 50)
	out := &describeLogGroupsOutput{LogGroups: []logGroup{}}
	for _, g := range s.store.list() {
		i := g.info()
		if i.Name <= after || !strings.HasPrefix(i.Name, in.LogGroupNamePrefix) ||
			!strings.Contains(strings.ToLower(i.Name), strings.ToLower(in.LogGroupNamePattern)) {
			continue
		}
		if len(out.LogGroups) == limit {
			out.NextToken = encodeToken(out.LogGroups[limit-1].LogGroupName)
			break
		}
		stored := int64(0)
		for _, st := range g.list("") {
			st.mu.Lock()
			stored += st.bytes
			st.mu.Unlock()
		}
		out.LogGroups = append(out.LogGroups, logGroup{
			LogGroupName: i.Name, CreationTime: i.Created, RetentionInDays: i.Retention,
			ARN: s.groupARN(i.Name) + ":*", LogGroupARN: s.groupARN(i.Name),
			StoredBytes: stored, KMSKeyID: i.KMSKey, LogGroupClass: "STANDARD",
		})
	}
	return out, nil
}

func limitOr(limit, most int) int {
	if limit <= 0 || limit > most {
		return most
	}
	return limit
}

func encodeToken(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decodeToken(token string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", invalid("The specified nextToken is invalid.")
	}
	return string(raw), nil
}

// retentions are the days that AWS allows.
var retentions = map[int]bool{1: true, 3: true, 5: true, 7: true, 14: true, 30: true, 60: true, 90: true, 120: true, 150: true, 180: true, 365: true, 400: true, 545: true, 731: true, 1096: true, 1827: true, 2192: true, 2557: true, 2922: true, 3288: true, 3653: true}

type putRetentionPolicyInput struct {
	LogGroupName    string `json:"logGroupName"`
	RetentionInDays int    `json:"retentionInDays"`
}

func (s *Service) putRetentionPolicy(_ context.Context, in *putRetentionPolicyInput) (*nothing, error) {
	if !retentions[in.RetentionInDays] {
		return nil, invalid("1 validation error detected: Value '%d' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]", in.RetentionInDays)
	}
	g, err := s.store.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	return nil, g.change(func(i *groupInfo) { i.Retention = in.RetentionInDays })
}

func (s *Service) deleteRetentionPolicy(_ context.Context, in *groupRef) (*nothing, error) {
	g, err := s.store.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	return nil, g.change(func(i *groupInfo) { i.Retention = 0 })
}

type streamRef struct {
	LogGroupName  string `json:"logGroupName"`
	LogStreamName string `json:"logStreamName"`
}

func (s *Service) createLogStream(_ context.Context, in *streamRef) (*nothing, error) {
	g, err := s.store.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	_, err = g.createStream(in.LogStreamName, s.store.millis())
	return nil, err
}

func (s *Service) deleteLogStream(_ context.Context, in *streamRef) (*nothing, error) {
	g, err := s.store.group(in.LogGroupName)
	if err != nil {
		return nil, err
	}
	return nil, g.deleteStream(in.LogStreamName)
}

type describeLogStreamsInput struct {
	groupRef
	LogStreamNamePrefix string `json:"logStreamNamePrefix"`
	OrderBy             string `json:"orderBy"`
	Descending          bool   `json:"descending"`
	Limit               int    `json:"limit"`
	NextToken           string `json:"nextToken"`
}

type logStream struct {
	LogStreamName       string `json:"logStreamName"`
	CreationTime        int64  `json:"creationTime"`
	FirstEventTimestamp int64  `json:"firstEventTimestamp,omitempty"`
	LastEventTimestamp  int64  `json:"lastEventTimestamp,omitempty"`
	LastIngestionTime   int64  `json:"lastIngestionTime,omitempty"`
	UploadSequenceToken string `json:"uploadSequenceToken,omitempty"`
	ARN                 string `json:"arn"`
	StoredBytes         int64  `json:"storedBytes"` // AWS: always 0 since 2019
}

type describeLogStreamsOutput struct {
	LogStreams []logStream `json:"logStreams"`
	NextToken  string      `json:"nextToken,omitempty"`
}

func (s *Service) describeLogStreams(_ context.Context, in *describeLogStreamsInput) (*describeLogStreamsOutput, error) {
	if in.OrderBy == "LastEventTime" && in.LogStreamNamePrefix != "" {
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	g, err := s.find(in.groupRef)
	if err != nil {
		return nil, err
	}
	after, err := decodeToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	var all []logStream
	for _, st := range g.list(in.LogStreamNamePrefix) {
		st.mu.Lock()
		all = append(all, logStream{
			LogStreamName: st.Name, CreationTime: st.Created,
			FirstEventTimestamp: st.first, LastEventTimestamp: st.last, LastIngestionTime: st.lastIngestion,
			UploadSequenceToken: sequenceToken(st.end),
			ARN:                 s.groupARN(g.Name) + ":log-stream:" + st.Name,
		})
		st.mu.Unlock()
	}
	position := func(l logStream) string { return l.LogStreamName }
	if in.OrderBy == "LastEventTime" {
		position = func(l logStream) string { return fmt.Sprintf("%016d %s", l.LastEventTimestamp, l.LogStreamName) }
	}
	before := func(a, b string) bool { return a < b }
	if in.Descending {
		before = func(a, b string) bool { return a > b }
	}
	sort.Slice(all, func(i, j int) bool { return before(position(all[i]), position(all[j])) })
	limit := limitOr(in.Limit, 50)
	out := &describeLogStreamsOutput{LogStreams: []logStream{}}
	for _, l := range all {
		if after != "" && !before(after, position(l)) {
			continue
		}
		if len(out.LogStreams) == limit {
			out.NextToken = encodeToken(position(out.LogStreams[limit-1]))
			break
		}
		out.LogStreams = append(out.LogStreams, l)
	}
	return out, nil
}

func sequenceToken(n int64) string { return fmt.Sprintf("%056d", n) }
