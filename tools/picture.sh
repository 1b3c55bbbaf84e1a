#!/usr/bin/env bash
# Take the picture of the report page that README shows, from a finished demo: tools/picture.sh runs/quickstart/report.html
set -euo pipefail
page=$(realpath "$1")
out=$(realpath "$(dirname "$0")/../docs/images/report.png")
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
    --window-size=1100,900 --virtual-time-budget=3000 --screenshot="$out" "file://$page" 2>/dev/null
