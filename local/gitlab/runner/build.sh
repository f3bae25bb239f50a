#!/usr/bin/env bash
#
# Builds GitLab Runner from its Go module, with the parts that a custom executor
# never touches left out. README.md says which parts and why.
#
#   ./build.sh OUTPUT_PATH
#
set -euo pipefail

version=19.4.0
revision=fc1f1862
module=gitlab.com/gitlab-org/gitlab-runner
module_version=v1.11.1-0.20260903214710-fc1f1862bd91
module_sum=h1:bO0AEZUnr/PlWtor5zcLz31UDAJuj7gEALFXrd8vcoY=

# Lines of the runner's main.go that hold one of these words are left out.
main_left_out=(
	fleeting commands/steps steps.New RunnerWrapper ProxyExec
	docker instance ubernetes ssh parallels virtualbox
)

# Files of the runner that are left out.
files_left_out=(
	commands/wrapper.go
	commands/helpers/proxy_exec.go
)

# Packages of the runner that the ones in packages/ stand in for.
packages=(commands/steps steps/localserver)

# Modules that only the left-out parts require.
modules_left_out=(
	gitlab.com/ajwalker/phrasestream
	gitlab.com/gitlab-org/fleeting/fleeting
	gitlab.com/gitlab-org/fleeting/fleeting-artifact
	gitlab.com/gitlab-org/fleeting/fleeting/metrics/prometheus
	gitlab.com/gitlab-org/fleeting/nesting
	gitlab.com/gitlab-org/fleeting/taskscaler
	gitlab.com/gitlab-org/fleeting/taskscaler/metrics/prometheus
	"$module/helpers/runner_wrapper/api"
)

fail() {
	echo "build.sh: $*" >&2
	exit 1
}

trim_main() {
	local line word dropped seen=' '
	while IFS= read -r line; do
		dropped=
		for word in "${main_left_out[@]}"; do
			if [[ $line == *"$word"* ]]; then
				dropped=1
				seen+="$word "
			fi
		done
		[[ $dropped ]] || printf '%s\n' "$line"
	done
	for word in "${main_left_out[@]}"; do
		[[ $seen == *" $word "* ]] || fail "main.go has no line with '$word'"
	done
}

[[ $# -eq 1 ]] || fail 'usage: build.sh OUTPUT_PATH'
output=$(realpath -m -- "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/gitlab-runner-build
export CGO_ENABLED=0 GOFLAGS= GOWORK=off

# The same recipe, Go version and platform give the same binary.
shopt -s globstar
cd "$here"
recipe=$(
	{
		go env GOVERSION GOOS GOARCH
		sha256sum build.sh packages/**/*.txt stubs/**/*.txt
	} | sha256sum
)
binary=$cache/${recipe:0:16}/gitlab-runner

if [[ ! -x $binary ]]; then
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/work.XXXXXXXX")
	trap 'rm -rf "$work"' EXIT

	# Go checks the module against its public checksum; this checks it against
	# the copy that the recipe was written for.
	downloaded=$(cd "$work" && go mod download -json "$module@$module_version")
	[[ $downloaded == *"\"Sum\": \"$module_sum\""* ]] || fail "unexpected module: $downloaded"
	source=${downloaded#*\"Dir\": \"}
	source=${source%%\"*}

	cp -R "$source" "$work/runner"
	chmod -R u+w "$work/runner"
	cd "$work/runner"

	for file in "${files_left_out[@]}"; do
		rm "$file"
	done
	trim_main <main.go >main.go.new
	mv main.go.new main.go
	for package in "${packages[@]}"; do
		rm "$package"/*.go
		for file in "$here/packages/$package"/*.go.txt; do
			cp "$file" "$package/$(basename "$file" .txt)"
		done
	done
	cp -R "$here/stubs" ../stubs
	for file in ../stubs/**/*.txt; do
		mv "$file" "${file%.txt}"
	done

	edits=(
		-dropreplace "$module/helpers/runner_wrapper/api"
		-replace gitlab.com/gitlab-org/moa=../stubs/moa
		-replace gitlab.com/gitlab-org/step-runner=../stubs/step-runner
		-replace gitlab.com/gitlab-org/labkit/v2=../stubs/labkit
	)
	for left_out in "${modules_left_out[@]}"; do
		edits+=(-droprequire "$left_out")
	done
	go mod edit "${edits[@]}"

	common=$module/common
	go build -trimpath -buildvcs=false -o ../gitlab-runner \
		-ldflags "-s -w -X $common.NAME=gitlab-runner -X $common.VERSION=$version -X $common.REVISION=$revision" .

	mkdir -p "${binary%/*}"
	mv ../gitlab-runner "$binary"
	cd "$here"
fi

mkdir -p "$(dirname "$output")"
install -m 755 "$binary" "$output"
"$output" --version
