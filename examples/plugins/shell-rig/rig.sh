#!/bin/sh
# A tokensink plugin in POSIX sh, with sed and curl. One process serves one request; every line on standard output is
# a JSON object. Secrets go to curl on its standard input, since arguments can be seen by every process of the host.
set -eu

say() {
    printf '%s\n' "$1"
}

# Text as a JSON string.
quoted() {
    printf '"%s"' "$(printf '%s' "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')"
}

# fail KIND MESSAGE [MORE]: ends with an error. The kind says what tokensink does next.
fail() {
    say "{\"type\": \"error\", \"kind\": \"$1\", \"message\": $(quoted "$2")${3:-}}"
    exit 0
}

# text JSON KEY: the string under a key, wherever it stands. Enough for flat answers without escapes.
text() {
    printf '%s' "$1" | sed -n 's/.*"'"$2"'" *: *"\([^"\\]*\)".*/\1/p'
}

# number JSON KEY
number() {
    printf '%s' "$1" | sed -n 's/.*"'"$2"'" *: *\([0-9][0-9]*\).*/\1/p'
}

# post PATH SECRET_NAME SECRET [NAME=VALUE ...]: posts a form and sets $status and $answer.
post() {
    path=$1 secret_name=$2 secret=$3
    shift 3
    for pair in "$@"; do
        shift
        set -- "$@" --data-urlencode "$pair"
    done
    code=0
    answer=$(printf '%s' "$secret" | curl --silent --show-error --max-time 30 --write-out '\n%{http_code}' \
        "$@" --data-urlencode "$secret_name@-" "$server$path") || code=$?
    case $code in
        0) ;;
        # Nothing was sent: no such host, or no connection. A refresh token is unspent then.
        5 | 6 | 7) fail transient "no connection to $server" ', "unspent": true' ;;
        # Anything else may have happened after the server had it. Say only what is known.
        *) fail transient "curl ended with $code" ;;
    esac
    status=${answer##*
}
    answer=$(printf '%s' "${answer%
*}" | tr '\n' ' ')
}

# Says the result of a token endpoint's answer.
tokens() {
    access=$(text "$answer" access_token)
    error=$(text "$answer" error)
    if [ "$status" = 200 ] && [ -n "$access" ]; then
        life=$(number "$answer" expires_in)
        new=$(text "$answer" refresh_token)
        say "{\"type\": \"result\", \"access_token\": $(quoted "$access")${new:+, \"refresh_token\": $(quoted "$new")}${life:+, \"expires_in\": $life}}"
        exit 0
    fi
    case $status/$error in
        */invalid_grant) fail terminal "the server answered $status $error" ;;
        */access_denied) fail denied "the login was refused" ;;
        200/* | 502/* | 504/*) fail transient "the server answered $status" ;;
        *) fail transient "the server answered $status $error" ', "unspent": true' ;;
    esac
}

# RFC 8628. The user types a code elsewhere, so nobody need sit at this terminal.
login() {
    post /oauth/device/code client_id rig 'scope=openid email offline_access'
    device_code=$(text "$answer" device_code)
    [ -n "$device_code" ] || fail transient "the server answered $status"
    pause=$(number "$answer" interval)
    say "{\"type\": \"progress\", \"text\": $(quoted "enter the code $(text "$answer" user_code)"), \"waiting\": true}"
    say "{\"type\": \"open_url\", \"url\": $(quoted "$(text "$answer" verification_uri)")}"
    while :; do
        sleep "${pause:-5}"
        post /oauth/token device_code "$device_code" client_id=rig \
            grant_type=urn:ietf:params:oauth:grant-type:device_code
        case $(text "$answer" error) in
            authorization_pending) ;;
            slow_down) pause=$((${pause:-5} + 5)) ;;
            *) tokens ;;
        esac
        say '{"type": "progress", "text": "still waiting for the code", "waiting": true}'
    done
}

refresh() {
    post /oauth/token refresh_token "$(text "$request" refresh_token)" grant_type=refresh_token client_id=rig
    tokens
}

revoke() {
    post /oauth/revoke token "$(text "$request" refresh_token)" client_id=rig
    [ "$status" = 200 ] || fail transient "the server answered $status"
    say '{"type": "result"}'
}

# Asked by tokensink after a login whose result does not say whose it is.
identity() {
    answer=$(printf 'header = "Authorization: Bearer %s"\n' "$(text "$request" access_token)" |
        curl --silent --show-error --max-time 30 --fail --config - "$server/userinfo") ||
        fail transient "the server did not say"
    say "{\"type\": \"result\", \"account\": {\"subject\": $(quoted "$(text "$answer" sub)"), \"email\": $(quoted "$(text "$answer" email)")}}"
}

say '{"type": "hello", "versions": [1]}'
IFS= read -r request
server=$(text "$request" server)
case $(text "$request" action) in
    login) login ;;
    refresh) refresh ;;
    revoke) revoke ;;
    identity) identity ;;
    *) fail not_supported "this plugin logs in, refreshes, revokes and knows whose login it is" ;;
esac
