#!/usr/bin/env bash
# Have a peer run a command over a file and print what comes home: a client of rnd's API of curl and jq.
#
#     filter.sh FILE COMMAND        filter.sh hamlet.txt 'tr a-z A-Z | sort'
#
# It speaks to RND_URL (http://127.0.0.1:30069) with the token RND_TOKEN, or else to the socket below RND_DATA_DIR.
set -euo pipefail

fail() {
    printf 'filter.sh: %s\n' "$1" >&2
    exit 1
}

if [[ ${RND_URL:-} ]]; then
    url=${RND_URL%/}
    place=()
else
    url=http://rnd
    place=(--unix-socket "${RND_DATA_DIR:-/var/lib/rnd}/api.sock")
fi

# http PATH ARGS...: write the body of an answer. The token comes by a file, so that no list of processes shows it.
http() {
    local path=$1
    shift
    curl --silent --show-error --fail-with-body --max-time 60 "${place[@]}" "$@" "$url$path" \
        --header @<(printf 'Authorization: Bearer %s\n' "${RND_TOKEN:-}")
}

# call METHOD PARAMS: write the result of a method; where it has none, say why and end.
call() {
    local request answer
    request=$(jq -n --arg method "$1" --argjson params "$2" '{jsonrpc: "2.0", id: 1, $method, $params}')
    answer=$(http /rpc --header "Content-Type: application/json" --data-binary @- <<<"$request") ||
        fail "${answer:-the peer does not answer}"
    if [[ $(jq 'has("error")' <<<"$answer") == true ]]; then
        fail "$(jq -r --arg method "$1" '.error | .message as $message
            | "\($method): \($message) (\(.data.error // .code))",
              (.data.problems // [] | .[].message | select(. != $message) | "  \(.)"),
              (.data.hint // empty | "  hint: \(.)")' <<<"$answer")"
    fi
    jq .result <<<"$answer"
}

# until_it_has_ended EXECUTION: wait for as long as it takes, and fail where it has not completed.
until_it_has_ended() {
    local state
    while
        state=$(call execution.wait "{\"execution_id\": $1, \"timeout_s\": 25}")
        [[ $(jq -r .status <<<"$state") =~ ^(PENDING|RUNNING)$ ]]
    do :; done
    [[ $(jq -r .status <<<"$state") == COMPLETED ]] && return
    local words node
    words=$(jq -r '"execution \(.id) is \(.status): \(.error)"' <<<"$state")
    for node in $(jq '.jobs[] | select(.status == "ERRORED").node_id' <<<"$state"); do
        words+=$'\n'$(call job.logs "{\"execution_id\": $1, \"node_id\": $node, \"stream\": \"stderr\"}" |
            jq -r '.data | split("\n")[] | select(. != "") | "  \(.)"')
    done
    fail "$words"
}

# write_results EXECUTION: write every file that came home, page after page.
write_results() {
    local after=0 page path
    while [[ $after != null ]]; do
        page=$(call execution.results "{\"execution_id\": $1, \"after_id\": $after}")
        while read -r path; do
            http "/results/$1/$path"
        done < <(jq -r '.items[] | "\(.node_id)/\(.connection_id)/\(.path | split("/") | map(@uri) | join("/"))"' <<<"$page")
        after=$(jq .next_after_id <<<"$page")
    done
}

if (($# != 2)); then
    echo "usage: filter.sh FILE COMMAND" >&2
    exit 2
fi
name=filter-$$
workflow='' services=()
tidy_up() {
    [[ -z $workflow ]] || call workflow.delete "{\"workflow_id\": $workflow}" >/dev/null
    local service
    for service in "${services[@]}"; do
        call service.delete "{\"service_id\": $service}" >/dev/null
    done
}
trap tidy_up EXIT

text=$(jq -n --arg name "$name-text" --arg path "$(realpath -m -- "$1")" '{$name, service_type: "DATA", paths: [$path]}')
program=$(jq -n --arg name "$name-program" --arg command "$2" \
    '{$name, service_type: "STANDALONE", executable: "/bin/sh", cmd: ["-c", $command]}')
for offer in "$text" "$program"; do
    service=$(call service.create "$offer" | jq .id)
    services+=("$service")
done
workflow=$(call workflow.create "{\"name\": \"$name\"}" | jq .id)
nodes=()
for service in "${services[@]}"; do
    node=$(call workflow.add_node "{\"workflow_id\": $workflow, \"service_id\": $service}" | jq .node_id)
    nodes+=("$node")
done
# From the data to the program, and from the program home (null: the peer that runs the workflow).
for ends in "${nodes[0]} ${nodes[1]}" "${nodes[1]} null"; do
    connection="{\"from_node_id\": ${ends% *}, \"from_interface_type\": \"STDOUT\""
    connection+=", \"to_node_id\": ${ends#* }, \"to_interface_type\": \"STDIN\", \"workflow_id\": $workflow}"
    call workflow.add_connection "$connection" >/dev/null
done
execution=$(call workflow.execute "{\"workflow_id\": $workflow}" | jq .execution_id)
until_it_has_ended "$execution"
write_results "$execution"
