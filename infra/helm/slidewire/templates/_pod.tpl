{{/* What all pods have. */}}

{{- define "slidewire.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "slidewire.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{/* Where things lie, and the ledger: all that `ledger migrate` and `metrics` need. */}}
{{- define "slidewire.ledgerEnv" -}}
- name: SLIDEWIRE_CONFIG
  value: /etc/slidewire/slidewire.toml
- name: SLIDEWIRE_STATE_FOLDER
  value: /srv/slidewire/state
- name: SLIDEWIRE_CHECKPOINTS
  value: /srv/slidewire/checkpoints
- name: SLIDEWIRE_WEIGHTS
  value: /srv/slidewire/weights
- name: HOME
  value: /tmp
- name: SLIDEWIRE_METRICS_HOST
  value: {{ .Values.metrics.host | quote }}
- name: SLIDEWIRE_METRICS_PORT
  value: "9102"
- name: SLIDEWIRE_LEDGER_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.ledger.existingSecret }}
      key: {{ .Values.ledger.key }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* And what `worker` and `watch` need to talk to servers. */}}
{{- define "slidewire.serverEnv" -}}
{{ include "slidewire.ledgerEnv" . }}
{{- if .Values.broker.existingSecret }}
- name: SLIDEWIRE_BROKER_URL
  valueFrom:
    secretKeyRef:
      name: {{ .Values.broker.existingSecret }}
      key: {{ .Values.broker.key }}
{{- end }}
{{- range $name, $secret := .Values.secrets }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.existingSecret }}
      key: {{ $secret.key }}
{{- end }}
{{- end -}}

{{- define "slidewire.ledgerMounts" -}}
- name: config
  mountPath: /etc/slidewire
  readOnly: true
- name: tmp
  mountPath: /tmp
- name: state
  mountPath: /srv/slidewire/state
{{- end -}}

{{- define "slidewire.serverMounts" -}}
{{ include "slidewire.ledgerMounts" . }}
{{- if .Values.results.existingClaim }}
- name: results
  mountPath: {{ .Values.results.mountPath }}
{{- end }}
{{- range $name, $file := .Values.files }}
- name: file-{{ $name }}
  mountPath: /run/slidewire/files/{{ $name }}
  readOnly: true
{{- end }}
{{- end -}}

{{/* Of (dict "root" . "config" name-of-the-ConfigMap). */}}
{{- define "slidewire.ledgerVolumes" -}}
- name: config
  configMap:
    name: {{ .config }}
- name: tmp
  emptyDir: {}
- name: state
  emptyDir: {}
{{- end -}}

{{- define "slidewire.serverVolumes" -}}
{{ include "slidewire.ledgerVolumes" . }}
{{- with .root.Values.results.existingClaim }}
- name: results
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- range $name, $file := .root.Values.files }}
- name: file-{{ $name }}
  {{- if $file.existingSecret }}
  secret:
    secretName: {{ $file.existingSecret }}
    defaultMode: 0440
  {{- else }}
  configMap:
    name: {{ $file.existingConfigMap }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* /livez is true as long as work moves on; a start may have to load TensorFlow from a cold disk. */}}
{{- define "slidewire.probes" -}}
ports:
  - name: metrics
    containerPort: 9102
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
{{- end -}}

{{/* The CUDA images ask for all GPUs of the node; who has claimed none is to see none. */}}
{{- define "slidewire.noGpuEnv" -}}
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end -}}

{{/* Of (dict "root" . "on" nodeSelector-tolerations-and-so-on). */}}
{{- define "slidewire.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $.on $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" }}
{{- with get $.on $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- end -}}
