{{/* Names, labels and images. */}}

{{- define "slidewire.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 28 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 28 characters, so that a pool's name of 16 and the suffixes of Jobs and pods still make a label. */}}
{{- define "slidewire.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 28 | trimSuffix "-" -}}
{{- else if contains (include "slidewire.name" .) .Release.Name -}}
{{- .Release.Name | trunc 28 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "slidewire.name" .) | trunc 28 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "slidewire.release" -}}
app.kubernetes.io/name: {{ include "slidewire.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "slidewire.labels" -}}
{{ include "slidewire.release" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* Of (dict "root" . "own" image-of-a-pool). */}}
{{- define "slidewire.image" -}}
{{- $own := default dict .own -}}
{{- $shared := .root.Values.image -}}
{{- $repository := default $shared.repository $own.repository -}}
{{- $digest := default (ternary "" $shared.digest (or (hasKey $own "repository") (hasKey $own "tag"))) $own.digest -}}
{{- if $digest -}}
{{- printf "%s@%s" $repository $digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default (default .root.Chart.AppVersion $shared.tag) $own.tag) -}}
{{- end -}}
{{- end -}}
