package sagemaker

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
	"github.com/stretchr/testify/require"
)

// archived lists name and content of an object that is a .tar.gz.
func (f *fixture) archived(key string) map[string]string {
	f.Helper()
	text, ok := f.objects.get(key)
	require.True(f, ok, "no object %s", key)
	zip, err := gzip.NewReader(strings.NewReader(text))
	require.NoError(f, err)
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		require.NoError(f, err)
		b, err := io.ReadAll(archive)
		require.NoError(f, err)
		files[h.Name] = string(b)
	}
}

func TestJobRunsToCompletion(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.objects.put("data/train/a.csv", "1,2\n")
	f.objects.put("data/train/sub/b.csv", "3,4\n")
	in := request("complete", `set -e
cat /opt/ml/input/data/train/a.csv /opt/ml/input/data/train/sub/b.csv
test ! -x /opt/ml/input/data/train/a.csv && chmod +x /opt/ml/input/data/train/a.csv
echo to stderr >&2
hostname
echo "name=$TRAINING_JOB_NAME arn=$TRAINING_JOB_ARN region=$AWS_REGION mine=$MINE"
cat /opt/ml/input/config/hyperparameters.json; echo
cat /opt/ml/input/config/inputdataconfig.json; echo
cat /opt/ml/input/config/resourceconfig.json; echo
mkdir /opt/ml/model/deep && echo weights > /opt/ml/model/deep/w.bin
echo extra > /opt/ml/output/data/extra.txt
echo "loss=0.5"; echo "loss=0.25"
printf 'no newline'`)
	in.HyperParameters = map[string]string{"lr": "0.1"}
	in.Environment = map[string]string{"MINE": "yes"}
	in.AlgorithmSpecification.MetricDefinitions = []types.MetricDefinition{{Name: aws.String("loss"), Regex: aws.String("loss=([0-9.]+)")}}
	in.InputDataConfig = []types.Channel{{ChannelName: aws.String("train"), DataSource: &types.DataSource{
		S3DataSource: &types.S3DataSource{S3DataType: types.S3DataTypeS3Prefix, S3Uri: aws.String("s3://bucket/data/train")},
	}}}

	d := f.run(in)

	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v %q", aws.ToString(d.FailureReason), f.logs.lines("complete", ""))
	require.Equal(t, []string{
		"1,2", "3,4", "to stderr", "algo-1",
		"name=complete arn=arn:aws:sagemaker:us-east-1:123456789012:training-job/complete region=us-east-1 mine=yes",
		`{"lr":"0.1"}`,
		`{"train":{"RecordWrapperType":"None","S3DistributionType":"FullyReplicated","TrainingInputMode":"File"}}`,
		`{"current_group_name":"homogeneousCluster","current_host":"algo-1","current_instance_type":"ml.m5.large","hosts":["algo-1"],` +
			`"instance_groups":[{"hosts":["algo-1"],"instance_group_name":"homogeneousCluster","instance_type":"ml.m5.large"}],"network_interface_name":"lo"}`,
		"loss=0.5", "loss=0.25", "no newline",
	}, f.logs.lines("complete", "algo-1-"))
	require.Equal(t, []string{"Starting", "Downloading", "Training", "Uploading", "Completed"}, secondaries(d))
	for i, transition := range d.SecondaryStatusTransitions {
		require.NotEmpty(t, aws.ToString(transition.StatusMessage))
		require.NotNil(t, transition.EndTime, "transition %d has ended", i)
	}
	require.Equal(t, map[string]string{"deep/": "", "deep/w.bin": "weights\n"}, f.archived("out/complete/output/model.tar.gz"))
	require.Equal(t, map[string]string{"extra.txt": "extra\n"}, f.archived("out/complete/output/output.tar.gz"))
	require.Equal(t, "s3://bucket/out/complete/output/model.tar.gz", *d.ModelArtifacts.S3ModelArtifacts)
	require.Len(t, d.FinalMetricDataList, 1)
	require.InDelta(t, 0.25, *d.FinalMetricDataList[0].Value, 1e-6)
	require.Positive(t, *d.TrainingTimeInSeconds)
	require.Positive(t, *d.BillableTimeInSeconds)
	require.NotNil(t, d.TrainingStartTime)
	require.NotNil(t, d.TrainingEndTime)
	require.Equal(t, "None", string(d.InputDataConfig[0].CompressionType))
	require.Nil(t, d.VpcConfig)
	require.Nil(t, d.CheckpointConfig)
	require.Nil(t, d.FailureReason)
}

func TestHowJobsFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, image string
		entrypoint    []string
		reason        string
		logged        string
	}{
		"exit-code":      {script: "exit 3", reason: "AlgorithmError: , exit code: 3"},
		"failure-file":   {script: "printf 'it broke' > /opt/ml/output/failure; exit 1", reason: "AlgorithmError: it broke, exit code: 1"},
		"failure-link":   {script: "ln -s /etc/passwd /opt/ml/output/failure; exit 1", reason: "AlgorithmError: , exit code: 1"},
		"signal":         {script: "kill -9 $$", reason: "AlgorithmError: , exit code: 137"},
		"no-program":     {entrypoint: []string{"no-such-program"}, reason: `AlgorithmError: exec: "no-such-program": executable file not found in $PATH, exit code: 127`, logged: `exec: "no-such-program": executable file not found in $PATH`},
		"default-train":  {entrypoint: []string{}, reason: `AlgorithmError: exec: "train": executable file not found in $PATH, exit code: 127`, logged: `exec: "train": executable file not found in $PATH`},
		"no-such-path":   {entrypoint: []string{"/nope/train"}, reason: `AlgorithmError: exec: "/nope/train": stat /nope/train: no such file or directory, exit code: 127`},
		"not-in-ecr":     {script: "true", image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/gone:1", reason: "ClientError: API error (404): pull access denied for 123456789012.dkr.ecr.us-east-1.amazonaws.com/gone:1, repository does not exist or may require 'docker login'"},
		"unknown-user":   {script: "true", image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/user:1", reason: "ClientError: unable to find user nobodyknows: no matching entries in passwd file"},
		"without-a-file": {script: "test -e /opt/ml/output/failure && exit 9; exit 8", reason: "AlgorithmError: , exit code: 8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nil)
			f.write("images.json", `{"123456789012.dkr.ecr.us-east-1.amazonaws.com/gone:1": {"missing": true},
				"123456789012.dkr.ecr.us-east-1.amazonaws.com/user:1": {"user": "nobodyknows"}}`)
			in := request(name, c.script)
			if c.entrypoint != nil {
				in.AlgorithmSpecification.ContainerEntrypoint = c.entrypoint
				if len(c.entrypoint) == 0 {
					in.AlgorithmSpecification.ContainerEntrypoint = nil
				}
			}
			if c.image != "" {
				in.AlgorithmSpecification.TrainingImage = aws.String(c.image)
			}

			d := f.run(in)

			require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
			require.Equal(t, types.SecondaryStatusFailed, d.SecondaryStatus)
			require.Equal(t, c.reason, aws.ToString(d.FailureReason))
			if c.logged != "" {
				require.Contains(t, f.logs.lines(name, "algo-1-"), c.logged)
			}
		})
	}
}

func TestLongFailureTextIsCut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	d := f.run(request("long", "head -c 5000 /dev/zero | tr '\\0' x > /opt/ml/output/failure; exit 1"))
	require.Len(t, *d.FailureReason, 1024)
	require.True(t, strings.HasSuffix(*d.FailureReason, "x, exit code: 1"))
}

func TestTheMachinesDataIsNotThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.write("secret.txt", "of the machine")
	d := f.run(request("private", `set -e
test ! -e `+f.dir+`
ls -A /home /root /srv /mnt | grep -v : | grep . && exit 4
test "$(ls -A /tmp)" = ""
test ! -e /etc/shadow
echo x > /usr/bin/made-here; echo y > /etc/made-here; rm /usr/bin/env
echo ok`))
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%q", f.logs.lines("private", ""))
	for _, gone := range []string{"/usr/bin/made-here", "/etc/made-here"} {
		require.NoFileExists(t, gone)
	}
	require.FileExists(t, "/usr/bin/env")
}

func TestImages(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.write("images.json", `{"`+testImage+`": {"user": "65534", "entrypoint": ["/bin/sh", "-c", "echo entry $0; id -u; echo $FROM_IMAGE; pwd; cat /opt/app/x; cat /opt/ml/code/train.py; cat /usr/share/x; test -e /bin/bash || echo no bash; touch /opt/ml/model/w /opt/ml/output/failure /tmp/t && echo written"],
		"env": {"FROM_IMAGE": "layered"}, "workdir": "/work/dir", "layers": ["layer"], "remove": ["/bin/bash"]}}`)
	f.writeTree(map[string]string{"layer/opt/app/x": "app\n", "layer/opt/ml/code/train.py": "code\n", "layer/usr/share/x": "shared\n"})
	in := request("image", "")
	in.AlgorithmSpecification.ContainerEntrypoint = nil
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v %q", aws.ToString(d.FailureReason), f.logs.lines("image", ""))
	require.Equal(t, []string{"entry train", "65534", "layered", "/work/dir", "app", "code", "shared", "no bash", "written"}, f.logs.lines("image", ""))
}

// A real platform's certificate is one that every system trusts; a local
// authority has to be put where systems look.
func TestLocalAuthority(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(o *Options) { o.CABundle = filepath.Join(filepath.Dir(o.Data), "ca.pem") })
	f.write("ca.pem", "-----LOCAL AUTHORITY-----\n")
	f.write("images.json", `{"`+testImage+`": {"layers": ["layer"]}, "`+testImage+`-slim": {"remove": ["/etc/ssl", "/etc/pki"]}}`)
	f.writeTree(map[string]string{"layer/etc/ssl/certs/ca-certificates.crt": "image's own\n"})
	script := `cat $AWS_CA_BUNDLE; head -n 3 /etc/ssl/certs/ca-certificates.crt || echo none`
	f.run(request("system", script))
	require.Equal(t, []string{"-----LOCAL AUTHORITY-----", "image's own", "-----LOCAL AUTHORITY-----"}, f.logs.lines("system", ""))
	slim := request("slim", script)
	slim.AlgorithmSpecification.TrainingImage = aws.String(testImage + "-slim")
	f.run(slim)
	require.Equal(t, []string{"-----LOCAL AUTHORITY-----", "head: cannot open '/etc/ssl/certs/ca-certificates.crt' for reading: No such file or directory", "none"}, f.logs.lines("slim", ""))
}

func TestChannels(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	for _, k := range []string{"shard/a", "shard/b", "shard/c", "pre-1", "pre-2", "dir/x", "dir/../../../evil"} {
		f.objects.put(k, k)
	}
	f.objects.put("manifest", `[{"prefix":"s3://bucket/"},"dir/x","pre-1"]`)
	channel := func(name, kind, uri, mode, distribution string) types.Channel {
		return types.Channel{ChannelName: aws.String(name), InputMode: types.TrainingInputMode(mode), DataSource: &types.DataSource{S3DataSource: &types.S3DataSource{
			S3DataType: types.S3DataType(kind), S3Uri: aws.String(uri), S3DataDistributionType: types.S3DataDistribution(distribution),
		}}}
	}
	in := request("channels", `cd /opt/ml/input/data && find . -type f | sort && { echo x > fast/x && echo wrote; true; } 2>/dev/null`)
	in.ResourceConfig.InstanceCount = aws.Int32(2)
	in.InputDataConfig = []types.Channel{
		channel("shard", "S3Prefix", "s3://bucket/shard/", "", "ShardedByS3Key"),
		channel("name", "S3Prefix", "s3://bucket/pre", "", ""),
		channel("one", "S3Prefix", "s3://bucket/dir/x", "", ""),
		channel("fast", "S3Prefix", "s3://bucket/shard/", "FastFile", ""),
		channel("listed", "ManifestFile", "s3://bucket/manifest", "", ""),
	}
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v", aws.ToString(d.FailureReason))
	common := []string{"./fast/a", "./fast/b", "./fast/c", "./listed/dir/x", "./listed/pre-1", "./name/pre-1", "./name/pre-2", "./one/x"}
	require.Equal(t, append(slices.Clone(common), "./shard/a", "./shard/c"), f.logs.lines("channels", "algo-1-"))
	require.Equal(t, append(slices.Clone(common), "./shard/b"), f.logs.lines("channels", "algo-2-"))

	hostile := request("hostile", "true")
	hostile.InputDataConfig = []types.Channel{channel("all", "S3Prefix", "s3://bucket/dir/", "", "")}
	d = f.run(hostile)
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Contains(t, *d.FailureReason, "ClientError: Data download failed:")
}

func TestUncompressedOutput(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("plain", "mkdir /opt/ml/model/d; echo m > /opt/ml/model/d/m; echo o > /opt/ml/output/data/o; ln -s /etc/passwd /opt/ml/model/link")
	in.OutputDataConfig.CompressionType = types.OutputCompressionTypeNone
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v", aws.ToString(d.FailureReason))
	require.Equal(t, "s3://bucket/out/plain/output/model/", *d.ModelArtifacts.S3ModelArtifacts)
	m, _ := f.objects.get("out/plain/output/model/d/m")
	o, _ := f.objects.get("out/plain/output/data/o")
	require.Equal(t, "m\no\n", m+o)
	_, ok := f.objects.get("out/plain/output/model/link")
	require.False(t, ok)
}

func TestUploadToAMissingBucket(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("upload", "true")
	in.OutputDataConfig.S3OutputPath = aws.String("s3://missing/x")
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Equal(t, "ClientError: Artifact upload failed:the bucket missing does not exist", *d.FailureReason)
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.requireLimits()
	f.write("limits.json", `{"memory_mib": {"ml.m5.large": 64}}`)
	d := f.run(request("oom", "exec python3 -c 'x = bytearray(512 << 20)'"))
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Equal(t, "AlgorithmError: , exit code: 137", *d.FailureReason)
}

func TestNetworkIsolation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("isolated", "ls /sys/class/net 2>/dev/null; cat /proc/net/dev | grep -c ':'")
	in.EnableNetworkIsolation = aws.Bool(true)
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v", aws.ToString(d.FailureReason))
	require.Equal(t, []string{"1"}, f.logs.lines("isolated", ""))
}

func TestHostsTalkToEachOther(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("hosts", `exec /usr/bin/python3 -c '
import json, socket, time
me = json.load(open("/opt/ml/input/config/resourceconfig.json"))
assert me["hosts"] == ["algo-1", "algo-2"]
if me["current_host"] == "algo-1":
    s = socket.create_server(("algo-1", 7070)); c, peer = s.accept()
    print("got", c.recv(100).decode())
else:
    assert socket.gethostbyname("algo-1") != socket.gethostbyname("algo-2")
    for _ in range(200):
        try:
            c = socket.create_connection(("algo-1", 7070)); break
        except ConnectionRefusedError:
            time.sleep(0.05)
    c.sendall(socket.gethostname().encode())
'`)
	in.ResourceConfig.InstanceCount = aws.Int32(2)
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusCompleted, d.TrainingJobStatus, "%v %q", aws.ToString(d.FailureReason), f.logs.lines("hosts", ""))
	require.Equal(t, []string{"got algo-2"}, f.logs.lines("hosts", "algo-1-"))
}

func TestOneHostFailsAndTheOthersAreStopped(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	in := request("fails", `exec /usr/bin/python3 -c '
import signal, socket, sys, time
me = socket.gethostname()
def terminated(*_):
    print("terminated"); sys.exit(0)
signal.signal(signal.SIGTERM, terminated)
if me == "algo-2":
    for other in ("algo-1", "algo-3"):
        for _ in range(200):
            try:
                socket.create_connection((other, 7071)); break
            except ConnectionRefusedError:
                time.sleep(0.05)
    sys.exit(5)
s = socket.create_server((me, 7071)); s.accept()
time.sleep(60)
'`)
	in.ResourceConfig.InstanceCount = aws.Int32(3)
	d := f.run(in)
	require.Equal(t, types.TrainingJobStatusFailed, d.TrainingJobStatus)
	require.Equal(t, "AlgorithmError: , exit code: 5", *d.FailureReason)
	require.Equal(t, []string{"terminated"}, f.logs.lines("fails", "algo-3-"))
}
