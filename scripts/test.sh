#!/usr/bin/env bash
# Everything that must be green before a change lands. Cheap checks first.
set -euo pipefail
npm run --silent check
node scripts/ensure-tools.ts
exec node scripts/run-tests.ts
