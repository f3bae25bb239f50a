package request

import (
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"

	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/failure"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/internal/lazyregexp"
	"gitlab.com/sagemaker-executor/sagemaker-executor/executor/settings"
)

// applyImage chooses the image: image: of the job, else the spec's, else the
// default; and what image:entrypoint puts in front of the shell.
func (b *builder) applyImage() error {
	a := b.algorithm()
	name := b.job.Variables.Expand(b.job.Image.Name)
	switch {
	case name != "":
		b.origin["AlgorithmSpecification.TrainingImage"] = "image:"
	case a.TrainingImage != nil:
		name = *a.TrainingImage
	default:
		name = b.set.Defaults.Image
	}
	image, mapped := b.mapImage(name)
	if image == "" {
		return failure.Invalid("the job has no image: write image: in .gitlab-ci.yml, or set defaults.image in %s", b.set.File)
	}
	if b.set.Region == "" && strings.Contains(image, "{region}") {
		return failure.Invalid("the image %s needs a region: set region in %s", shorten(image), b.set.File)
	}
	image = strings.ReplaceAll(image, "{region}", b.set.Region)
	if len(image) > 255 || strings.ContainsAny(image, " \t\r\n") {
		return failure.Invalid("image: %s is no image reference of at most 255 characters without blanks", shorten(image))
	}
	if !mapped && !ecrImage().MatchString(image) && (a.TrainingImageConfig == nil || a.TrainingImageConfig.TrainingRepositoryAccessMode != types.TrainingRepositoryAccessModeVpc) {
		b.note("The image %q is not in ECR, and SageMaker pulls from nowhere else: if it refuses, copy the image to ECR and map the name under [images] in %s.", image, b.set.File)
	}
	a.TrainingImage = aws.String(image)
	if entry := b.job.Image.Entrypoint; len(entry) > 0 && entry[0] != "" {
		words := make([]string, len(entry))
		for i, w := range entry {
			words[i] = b.job.Variables.Expand(w)
		}
		b.req.Entrypoint = Entrypoint{Mode: EntrypointExplicit, Args: words}
	}
	return nil
}

// ecrImage is an image in Amazon ECR, in every partition.
var ecrImage = lazyregexp.New(`^\d{12}\.dkr\.ecr(-fips)?\.[a-z0-9-]+\.[a-z0-9.-]+/`)

// mapImage finds what [images] has for a name: an exact match, else the
// longest matching pattern.
func (b *builder) mapImage(name string) (image string, mapped bool) {
	if to, ok := b.set.Images[name]; ok {
		return to, true
	}
	patterns := slices.SortedFunc(maps.Keys(b.set.Images), func(x, y string) int {
		if len(x) != len(y) {
			return len(y) - len(x)
		}
		return strings.Compare(x, y)
	})
	for _, p := range patterns {
		if settings.Match([]string{p}, name) {
			return b.set.Images[p], true
		}
	}
	return name, false
}
