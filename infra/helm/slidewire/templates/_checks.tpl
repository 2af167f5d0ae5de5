{{/* What is missing or wrong, and no schema can say so with an example. No value is shown: it might be a secret. */}}

{{- define "slidewire.checks" -}}
{{- include "slidewire.checkSources" . -}}
{{- include "slidewire.checkConfig" . -}}
{{- include "slidewire.checkReferences" . -}}
{{- include "slidewire.checkPools" . -}}
{{- include "slidewire.checkWatch" . -}}
{{- include "slidewire.checkNetwork" . -}}
{{- end -}}

{{- define "slidewire.checkSources" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is not set: where the image lies, for example --set image.repository=registry.example.org/slidewire-worker-cpu" -}}
{{- end -}}
{{- if not .Values.ledger.existingSecret -}}
{{- fail "ledger.existingSecret is not set: the Secret with the ledger's URL. For example: kubectl create secret generic slidewire-ledger --from-file=url=FILE, then --set ledger.existingSecret=slidewire-ledger" -}}
{{- end -}}
{{- if and .Values.checkpoints.existingClaim .Values.checkpoints.storageClassName -}}
{{- fail "checkpoints.storageClassName is for a claim that the chart makes, and checkpoints.existingClaim names one that exists: set one of them, for example checkpoints.existingClaim=slidewire-checkpoints" -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.checkConfig" -}}
{{- $owned := dict "ledger_url" "ledger.existingSecret=slidewire-ledger" "broker_url" "broker.existingSecret=slidewire-broker" "hub_token" "weights.hubTokenSecret.existingSecret=hub-token" "HF_TOKEN" "weights.hubTokenSecret.existingSecret=hub-token" "state_folder" "" "checkpoints" "checkpoints.existingClaim=slidewire-checkpoints" "weights" "weights.existingClaim=slidewire-weights" "metrics_port" "" "metrics_host" "" "decoders" "pools.NAME.resources.requests.cpu=4" "device" "pools.NAME.gpu.count=1" -}}
{{- range $key, $instead := $owned -}}
{{- if hasKey $.Values.config $key -}}
{{- fail (printf "config.%s is set by the chart: leave it out%s" $key (ternary (printf ", and set for example %s" $instead) "" (ne $instead ""))) -}}
{{- end -}}
{{- end -}}
{{- range $name := keys .Values.env -}}
{{- if regexMatch "(?i)password|passwd|token|secret|credential|api_?key" $name -}}
{{- fail (printf "env.%s looks like a secret, and values are no place for one: name a Secret instead, for example secrets.%s={existingSecret: pacs, key: password}" $name $name) -}}
{{- end -}}
{{- if or (hasPrefix "SLIDEWIRE_" $name) (hasKey $.Values.secrets $name) -}}
{{- fail (printf "env.%s is set elsewhere: settings belong into config, for example config.batch_size=128, and secrets into secrets" $name) -}}
{{- end -}}
{{- end -}}
{{- range $index, $rule := .Values.config.rules -}}
{{- with $rule.out -}}
{{- if and (not (contains "://" .)) (not (and $.Values.results.existingClaim (hasPrefix (printf "%s/" $.Values.results.mountPath) (printf "%s/" .)))) -}}
{{- fail (printf "config.rules[%d].out is a folder that no volume is mounted at: set results.existingClaim, and out to %s or below; or a bucket, for example gs://BUCKET/embeddings" $index $.Values.results.mountPath) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.checkReferences" -}}
{{- range (include "slidewire.references" . | fromJson).found -}}
{{- if hasPrefix "env:" .value -}}
{{- $name := trimPrefix "env:" .value -}}
{{- if not (hasKey $.Values.secrets $name) -}}
{{- fail (printf "%s refers to an environment variable that secrets does not bring along: add it, for example secrets.PACS_PASSWORD={existingSecret: pacs, key: password} for env:PACS_PASSWORD" .at) -}}
{{- end -}}
{{- else if hasPrefix "file:" .value -}}
{{- $path := trimPrefix "file:" .value -}}
{{- $parts := splitList "/" (trimPrefix "/run/slidewire/files/" $path) -}}
{{- if not (and (hasPrefix "/run/slidewire/files/" $path) (ge (len $parts) 2) (hasKey $.Values.files (first $parts))) -}}
{{- fail (printf "%s names a file that files does not mount: add it, for example files.pacs-tls={existingSecret: pacs-tls} for /run/slidewire/files/pacs-tls/tls.key" .at) -}}
{{- end -}}
{{- else -}}
{{- fail (printf "%s must be a reference, never the secret itself: for example env:PACS_PASSWORD, with secrets.PACS_PASSWORD={existingSecret: pacs, key: password}" .at) -}}
{{- end -}}
{{- end -}}
{{- range $name, $file := .Values.files -}}
{{- if eq (empty $file.existingSecret) (empty $file.existingConfigMap) -}}
{{- fail (printf "files.%s needs one of existingSecret and existingConfigMap, for example files.%s={existingSecret: pacs-tls}" $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.checkPools" -}}
{{- if not .Values.pools -}}
{{- fail "pools is empty: nobody would do the work. For example: pools: {cpu: {workers: {min: 1}, resources: {requests: {cpu: 2, memory: 4Gi}}}}" -}}
{{- end -}}
{{- $elastic := false -}}
{{- range $name, $own := .Values.pools -}}
{{- $pool := include "slidewire.pool" (dict "root" $ "pool" $own) | fromJson -}}
{{- if lt ($pool.workers.max | int) ($pool.workers.min | int) -}}
{{- fail (printf "pools.%s.workers.max is less than its workers.min, for example workers={min: 1, max: 4}" $name) -}}
{{- end -}}
{{- if gt ($pool.gpu.count | int) 1 -}}
{{- fail (printf "pools.%s.gpu.count is more than 1, and a worker uses one GPU: ask for more workers, for example gpu.count=1 and workers.max=4" $name) -}}
{{- end -}}
{{- $requests := default dict $pool.resources.requests -}}
{{- range $what := list "cpu" "memory" -}}
{{- if not (get $requests $what) -}}
{{- fail (printf "pools.%s.resources.requests.%s is not set: the worker goes by it, for example resources={requests: {cpu: 4, memory: 16Gi}}" $name $what) -}}
{{- end -}}
{{- end -}}
{{- $elastic = or $elastic (gt ($pool.workers.max | int) ($pool.workers.min | int)) -}}
{{- end -}}
{{- if $elastic -}}
{{- $scaling := .Values.scaling -}}
{{- if eq $scaling.trigger "postgresql" -}}
{{- range $key, $example := dict "host" "ledger.databases.svc.cluster.local" "username" "slidewire_scaler" "existingSecret" "slidewire-scaler" -}}
{{- if not (get $scaling.postgresql $key) -}}
{{- fail (printf "scaling.postgresql.%s is not set, and KEDA asks the ledger how many workers of a pool are needed: for example scaling.postgresql.%s=%s; or let none come and go, with workers.min equal to workers.max" $key $key $example) -}}
{{- end -}}
{{- end -}}
{{- else if not $scaling.prometheus.serverAddress -}}
{{- fail "scaling.prometheus.serverAddress is not set: for example http://prometheus-operated.monitoring.svc:9090" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.checkWatch" -}}
{{- range .Values.watch.endpoints -}}
{{- if not (hasKey (default dict $.Values.config.endpoints) .) -}}
{{- fail (printf "watch.endpoints names %s, which config.endpoints does not have: for example config.endpoints.%s.url=https://pacs.example.org/dicom-web" . .) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.watch.endpoints (not .Values.config.rules) -}}
{{- fail "config.rules is empty, and watch.endpoints would queue nothing: for example config.rules=[{name: everything, encoder: uni, write_back: true}]" -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.checkNetwork" -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $policy := .Values.networkPolicy -}}
{{- $needed := dict "ledger" true "endpoints" (not (empty .Values.config.endpoints)) "broker" (not (empty .Values.broker.existingSecret)) "webhook" (not (empty .Values.config.webhook)) "weights" (not (empty .Values.weights.fetch)) -}}
{{- range $what, $is := $needed -}}
{{- if and $is (not (get $policy $what)) -}}
{{- fail (printf "networkPolicy.%s is empty, and everything that is not listed is denied: for example networkPolicy.%s=[{cidr: 10.20.0.5/32, ports: [443]}]; or networkPolicy.enabled=false" $what $what) -}}
{{- end -}}
{{- end -}}
{{- range $what := list "ledger" "endpoints" "broker" "webhook" "weights" "extra" -}}
{{- range $index, $peer := get $policy $what -}}
{{- if eq (empty $peer.cidr) (empty $peer.namespace) -}}
{{- fail (printf "networkPolicy.%s[%d] needs one of cidr and namespace, for example {namespace: databases, podLabels: {app: postgresql}, ports: [5432]}" $what $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
