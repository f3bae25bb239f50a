package sagemaker

import (
	"strconv"
	"strings"
)

// memory is the memory of an instance type in bytes, 0 where it is not known.
func (l *Limits) memory(instanceType string) int64 {
	if m, ok := l.MemoryMiB[instanceType]; ok {
		return m << 20
	}
	return instanceMemoryGiB(instanceType) << 30
}

// perVCPU is the GiB per virtual CPU of the general families.
var perVCPU = map[string]int64{"m": 4, "c": 2, "r": 8}

// instanceMemoryGiB derives an instance's memory from its name: ml.m5.2xlarge
// has 8 virtual CPUs of 4 GiB each. Families whose sizes do not follow the
// rule are listed; the rest have no limit here.
func instanceMemoryGiB(instanceType string) int64 {
	if m, ok := listedMemory[instanceType]; ok {
		return m
	}
	parts := strings.Split(instanceType, ".")
	if len(parts) != 3 || parts[0] != "ml" {
		return 0
	}
	family := parts[1]
	if len(family) < 2 || family[1] < '0' || family[1] > '9' {
		return 0 // another family that starts with the same letter
	}
	per := perVCPU[family[:1]]
	switch size := parts[2]; {
	case size == "large":
		return 2 * per
	case size == "xlarge":
		return 4 * per
	default:
		n, err := strconv.ParseInt(strings.TrimSuffix(size, "xlarge"), 10, 64)
		if err != nil {
			return 0
		}
		return 4 * n * per
	}
}

// listedMemory holds GiB of AWS's instance tables.
var listedMemory = map[string]int64{
	"ml.t3.medium": 4, "ml.t3.large": 8, "ml.t3.xlarge": 16, "ml.t3.2xlarge": 32,
	"ml.g4dn.xlarge": 16, "ml.g4dn.2xlarge": 32, "ml.g4dn.4xlarge": 64, "ml.g4dn.8xlarge": 128, "ml.g4dn.12xlarge": 192, "ml.g4dn.16xlarge": 256,
	"ml.g5.xlarge": 16, "ml.g5.2xlarge": 32, "ml.g5.4xlarge": 64, "ml.g5.8xlarge": 128, "ml.g5.12xlarge": 192, "ml.g5.16xlarge": 256, "ml.g5.24xlarge": 384, "ml.g5.48xlarge": 768,
	"ml.p3.2xlarge": 61, "ml.p3.8xlarge": 244, "ml.p3.16xlarge": 488, "ml.p3dn.24xlarge": 768,
	"ml.m4.10xlarge": 160, "ml.c4.8xlarge": 60,
}
