#!/usr/bin/env bash
# The first hour of a user who has nothing but the installed package: the demo by one command, and a
# vendor at a URL by three. The vendors are simulated ones, each a process of its own on loopback.
#
#   .ci/first_hour.sh BIN    BIN is the environment's bin directory; files go to the current directory
set -euo pipefail

bin=$(cd "$1" && pwd)
export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1
export K2_VERIFIER_API_KEY=sk-simulated-no-secret
servers=()
trap '[ ${#servers[@]} -eq 0 ] || kill "${servers[@]}"' EXIT

# expect CODE COMMAND...: run a k2-verifier command, keep what it says, and compare its exit code.
expect() {
    local wanted=$1 code=0
    shift
    printf '\n$ k2-verifier %s\n' "$*"
    "$bin/k2-verifier" "$@" >said.txt 2>errors.txt || code=$?
    if [ "$code" != "$wanted" ]; then
        cat said.txt errors.txt
        echo "exit code $code, expected $wanted" >&2
        exit 1
    fi
    head -n 4 said.txt
    echo "exit code $code"
}

# says TEXT: the last command printed a line that begins with this text.
says() {
    grep -q "^$1" said.txt || {
        cat said.txt
        echo "no line begins with: $1" >&2
        exit 1
    }
}

# serve PROFILE: start a simulated vendor on a free port; its URL, printed once it is ready, in $url.
serve() {
    exec {from_server}< <(exec "$bin/k2-verifier" simulate --profile "$1" --port 0 2>"simulate-$1.log")
    servers+=($!)
    read -r -t 120 url <&"$from_server" || {
        cat "simulate-$1.log"
        exit 1
    }
}

ask() { # ask CODE URL RUN FLAG...: evaluate the endpoint.
    local code=$1 address=$2 run=$3
    shift 3
    expect "$code" eval --model kimi-k2-simulated --api-url "$address" --work-dir "$run" --no-timestamp "$@"
}

# One command.
expect 0 demo --work-dir demo
says "SIMULATED"
says "PASS simulated-faithful, simulated (gate strict, exit code 0); report: demo/"
says "FAIL simulated-broken, simulated (gate strict, exit code 1); report: demo/"

# What the official API answered, which a user has as files: two runs of an official endpoint, exported.
serve official
official=$url
for number in 1 2; do
    ask 0 "$official" "official$number" --rows bundled
    expect 0 export "official$number" --output "official$number.jsonl"
done

# Three commands: rows of the official answers, the vendor at its URL, a report to show.
expect 0 dataset build --baseline official1.jsonl --baseline official2.jsonl --subset k2_thinking --output rows
ask 0 "$official" vendor --rows rows --gate strict --concurrency 16 --header 'X-Team: verifier'
says "PASS kimi-k2-simulated, k2_thinking (gate strict, exit code 0); report: vendor/"
[ "$(wc -l <said.txt)" -le 30 ]
expect 0 report vendor --output report.html
grep -q '^<!DOCTYPE html>' report.html
grep -q 'class="verdict pass"' report.html

# And a vendor that decides otherwise than the official API does not get by.
serve over-triggering
ask 1 "$url" other --rows rows --gate strict
[ "$(wc -l <said.txt)" -le 30 ]
says "FAIL kimi-k2-simulated, k2_thinking (gate strict, exit code 1); report: other/"

# A first look at few rows, which then becomes a whole run.
ask 0 "$official" few --rows rows --limit 20
ask 0 "$official" few --rows rows --use-cache few
expect 0 report few --format json
grep -q '"total": 240' said.txt

# Upstream's command, with its own flags but for its samples.
expect 2 eval samples.jsonl --model m --base-url "$official"
grep -q 'dataset build --samples samples.jsonl' errors.txt
