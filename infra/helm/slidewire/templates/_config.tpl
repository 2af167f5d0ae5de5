{{/* slidewire.toml. */}}
{{- define "slidewire.toml" -}}
{{- toToml .Values.config -}}
{{- end -}}

{{/* Everything that the configuration refers to by env:NAME or file:PATH, and every file: a list of {at, value}. */}}
{{- define "slidewire.references" -}}
{{- $found := list -}}
{{- $servers := dict -}}
{{- range $name, $server := .Values.config.endpoints -}}
{{- $_ := set $servers (printf "config.endpoints.%s" $name) $server -}}
{{- end -}}
{{- range $name, $encoder := .Values.config.encoders -}}
{{- with $encoder.server }}{{ $_ := set $servers (printf "config.encoders.%s.server" $name) . }}{{ end -}}
{{- end -}}
{{- with .Values.config.webhook }}{{ $_ := set $servers "config.webhook" . }}{{ end -}}
{{- with .Values.config.deidentify_key }}{{ $_ := set $servers "config" (dict "deidentify_key" .) }}{{ end -}}
{{- range $at, $server := $servers -}}
{{- range $key := list "secret" "deidentify_key" -}}
{{- with get $server $key }}{{ $found = append $found (dict "at" (printf "%s.%s" $at $key) "value" .) }}{{ end -}}
{{- end -}}
{{- range $key := list "ca_bundle" "client_certificate" "client_key" -}}
{{- with get $server $key }}{{ $found = append $found (dict "at" (printf "%s.%s" $at $key) "value" (printf "file:%s" .)) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- dict "found" $found | toJson -}}
{{- end -}}
