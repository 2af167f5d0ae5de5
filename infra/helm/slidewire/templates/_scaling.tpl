{{/*
How many workers a pool should have: (dict "root" . "name" pool "pool" its-values).

Both queries answer the same question with one whole number: the workers that the pool's due and leased shards are
worth (`shardsEach` each), less those that stand always; and 0 as long as no due shard has waited for `queueAgeSeconds`.
KEDA's strategy `default` creates as many Jobs as are missing: min(answer, max - min) less the Jobs that are not finished,
be they pending, idle or busy. So a Job whose node still boots is not asked for again, and KEDA ends none, ever.
Whole, as KEDA takes any fraction for 0; target 1, as it divides by that.
*/}}

{{/* Straight from the ledger. Servers that nobody may ask now do not count, nor backfills in their quiet hours, and of
a server with `workers` no more than those. No more shards are looked at than the pool's `max` can be worth, by the
indexes that claims go by; those in no queue were inserted by an older Slidewire. */}}
{{- define "slidewire.ledgerQuery" -}}
{{- $pool := .pool -}}
{{- $each := $pool.workers.shardsEach | int -}}
{{- $encoders := printf "'%s'" (join "', '" $pool.encoders) -}}
WITH clock AS (SELECT extract(epoch FROM clock_timestamp())::double precision AS now),
server AS (
  SELECT key FROM endpoint, clock WHERE state = 'closed' OR (open_until <= now AND probe_until <= now)
),
waiting AS (
  {{- if $pool.encoders }}
  SELECT server.key, due.waits_s
  FROM clock CROSS JOIN server CROSS JOIN unnest(ARRAY[{{ $encoders }}]) AS encoder CROSS JOIN LATERAL (
    SELECT now - greatest(s.not_before, s.updated_at) AS waits_s FROM shard AS s
    WHERE s.state = 'pending' AND s.not_before <= now AND s.queue = encoder || ' ' || server.key
    {{- include "slidewire.due" . | nindent 4 }}
  ) AS due
  UNION ALL
  SELECT s.endpoint, now - greatest(s.not_before, s.updated_at)
  FROM clock CROSS JOIN shard AS s JOIN server ON server.key = s.endpoint JOIN job ON job.id = s.job_id
  WHERE s.state = 'pending' AND s.not_before <= now AND s.queue = '' AND job.encoder IN ({{ $encoders }})
  {{- include "slidewire.ranks" $pool.lanes | trim | nindent 2 }}
  {{- else }}
  SELECT server.key, due.waits_s FROM clock CROSS JOIN server CROSS JOIN LATERAL (
    SELECT now - greatest(s.not_before, s.updated_at) AS waits_s FROM shard AS s
    WHERE s.state = 'pending' AND s.not_before <= now AND s.endpoint = server.key
    {{- include "slidewire.due" . | nindent 4 }}
  ) AS due
  {{- end }}
),
leased AS (
  SELECT s.endpoint AS key FROM shard AS s JOIN server ON server.key = s.endpoint JOIN job ON job.id = s.job_id
  WHERE s.state = 'leased'
  {{- with $pool.encoders }}
  AND job.encoder IN ({{ $encoders }})
  {{- end }}
  {{- include "slidewire.ranks" $pool.lanes | trim | nindent 2 }}
),
wanted AS (
  SELECT least(ceil(count(*) / {{ $each }}.0), CASE
    {{- range $name, $server := .root.Values.config.endpoints }}
    {{- with $server.workers }} WHEN key = '{{ $name }}' THEN {{ . | int }}{{ end }}
    {{- end }} WHEN true THEN {{ $pool.workers.max | int }} END) AS workers
  FROM (SELECT key FROM waiting UNION ALL SELECT key FROM leased) AS shards GROUP BY key
)
SELECT CASE WHEN (SELECT max(waits_s) FROM waiting) >= {{ $pool.workers.queueAgeSeconds | int }}
  THEN greatest((SELECT sum(workers) FROM wanted) - {{ $pool.workers.min | int }}, 0) ELSE 0 END::bigint
{{- end -}}

{{/* Which of the shards, the first of them first. */}}
{{- define "slidewire.due" -}}
{{- include "slidewire.ranks" .pool.lanes -}}
{{- range $name, $server := .root.Values.config.endpoints -}}
{{- with $server.quiet_hours -}}
{{- $hours := splitList "-" . -}}
{{- $time := printf "(clock_timestamp() AT TIME ZONE '%s')::time" (default "UTC" $server.time_zone) -}}
AND NOT (server.key = '{{ $name }}' AND s.rank = 10 AND ({{ $time }} >= '{{ first $hours }}' {{ ternary "AND" "OR" (lt (first $hours) (last $hours)) }} {{ $time }} < '{{ last $hours }}'))
{{ end -}}
{{- end -}}
ORDER BY s.rank, s.turn, s.idx LIMIT {{ mul (.pool.workers.max | int) (.pool.workers.shardsEach | int) }}
{{- end -}}

{{- define "slidewire.ranks" -}}
{{- $ranks := dict "interactive" "-10" "standard" "0" "backfill" "10" -}}
{{- with . -}}
AND s.rank IN ({{ range $index, $lane := . }}{{ if $index }}, {{ end }}{{ get $ranks $lane }}{{ end }})
{{ end -}}
{{- end -}}

{{/* From Prometheus, which knows the ages of lanes, not of encoders, and nothing of a server's `workers`. Several processes
serve the same figures of one ledger: max keeps one of each. */}}
{{- define "slidewire.prometheusQuery" -}}
{{- $pool := .pool -}}
{{- $matchers := default (printf `namespace="%s"` .root.Release.Namespace) .root.Values.scaling.prometheus.matchers -}}
{{- $encoders := "" -}}
{{- if $pool.encoders -}}
{{- $quoted := list -}}
{{- range $pool.encoders }}{{ $quoted = append $quoted (regexQuoteMeta .) }}{{ end -}}
{{- $encoders = printf ",encoder=~`%s`" (join "|" $quoted) -}}
{{- end -}}
{{- $lanes := "" -}}
{{- if $pool.lanes }}{{ $lanes = printf ",lane=~`%s`" (join "|" $pool.lanes) }}{{ end -}}
clamp_min(
  ceil((
    sum(max by (lane, encoder) (slidewire_due_shards{ {{- $matchers }}{{ $lanes }}{{ $encoders -}} }))
    + (sum(max by (encoder) (slidewire_leased_shards{ {{- $matchers }}{{ $encoders -}} })) or vector(0))
  ) / {{ $pool.workers.shardsEach | int }}) - {{ $pool.workers.min | int }}, 0)
and on () (sum(max by (lane, encoder) (slidewire_due_shards{ {{- $matchers }}{{ $lanes }}{{ $encoders -}} })) > 0)
and on () (max(slidewire_queue_age_seconds{ {{- $matchers }}{{ $lanes -}} }) >= {{ $pool.workers.queueAgeSeconds | int }})
{{- end -}}

{{- define "slidewire.trigger" -}}
{{- $scaling := .root.Values.scaling -}}
{{- if eq $scaling.trigger "postgresql" -}}
- type: postgresql
  metadata:
    # Single values, not one connection string: by them KEDA tells its connections to different databases apart.
    host: {{ $scaling.postgresql.host }}
    port: {{ $scaling.postgresql.port | int | quote }}
    dbName: {{ $scaling.postgresql.database }}
    userName: {{ $scaling.postgresql.username }}
    sslmode: {{ $scaling.postgresql.sslmode }}
    targetQueryValue: "1"
    activationTargetQueryValue: "0"
    query: |-
      {{- include "slidewire.ledgerQuery" . | nindent 6 }}
  authenticationRef:
    name: {{ include "slidewire.fullname" .root }}-ledger
{{- else -}}
- type: prometheus
  metadata:
    serverAddress: {{ $scaling.prometheus.serverAddress }}
    threshold: "1"
    activationThreshold: "0"
    # No series: nothing is due, or nobody has looked; either way no worker is added.
    ignoreNullValues: "true"
    query: |-
      {{- include "slidewire.prometheusQuery" . | nindent 6 }}
{{- end -}}
{{- end -}}
