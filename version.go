package main

import "runtime/debug"

// release is set by the Makefile (-ldflags -X main.release=...).
var release string

// version is the release, else the module version or commit that Go recorded.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
