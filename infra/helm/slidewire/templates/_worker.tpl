{{/* The pod of a worker, in a Deployment or in a Job: (dict "root" . "name" pool "pool" its-values "leaves" bool). */}}

{{/* The values of a pool over those that all pools have. */}}
{{- define "slidewire.pool" -}}
{{- mergeOverwrite (deepCopy .root.Values.poolDefaults) (deepCopy (default dict .pool)) | toJson -}}
{{- end -}}

{{- define "slidewire.poolLabels" -}}
app.kubernetes.io/component: worker
slidewire/pool: {{ .name }}
{{- end -}}

{{- define "slidewire.workerArgs" -}}
- worker
{{- range .pool.encoders }}
- --encoder
- {{ . | quote }}
{{- end }}
{{- range .pool.lanes }}
- --lane
- {{ . }}
{{- end }}
{{- if .leaves }}
- --leave-after
- {{ .pool.workers.leaveAfterSeconds | int | quote }}
{{- end }}
{{- end -}}

{{- define "slidewire.workerResources" -}}
{{- $resources := deepCopy .pool.resources -}}
{{- if .pool.gpu.count -}}
{{- $limits := default dict $resources.limits -}}
{{- $_ := set $limits .pool.gpu.resource (.pool.gpu.count | int) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* The encoders of a pool whose weights are fetched; of one for all encoders, all that are. */}}
{{- define "slidewire.fetched" -}}
{{- $fetched := list -}}
{{- range .root.Values.weights.fetch -}}
{{- if or (not $.pool.encoders) (has . $.pool.encoders) }}{{ $fetched = append $fetched . }}{{ end -}}
{{- end -}}
{{- dict "encoders" $fetched | toJson -}}
{{- end -}}

{{- define "slidewire.fetchContainers" -}}
{{- range $index, $encoder := .encoders }}
- name: fetch-{{ $index }}
  image: {{ include "slidewire.image" (dict "root" $.root "own" $.pool.image) }}
  imagePullPolicy: {{ $.root.Values.image.pullPolicy }}
  args: [encoders, fetch, {{ $encoder | quote }}]
  env:
    {{- include "slidewire.ledgerEnv" $.root | nindent 4 }}
    {{- with $.root.Values.weights.hubTokenSecret }}
    {{- if .existingSecret }}
    - name: HF_TOKEN
      valueFrom:
        secretKeyRef:
          name: {{ .existingSecret }}
          key: {{ .key }}
    {{- end }}
    {{- end }}
  {{- include "slidewire.containerSecurity" $ | nindent 2 }}
  resources:
    {{- toYaml $.pool.resources | nindent 4 }}
  volumeMounts:
    {{- include "slidewire.ledgerMounts" $.root | nindent 4 }}
    - name: weights
      mountPath: /srv/slidewire/weights
{{- end }}
{{- end -}}

{{- define "slidewire.workerPod" -}}
{{- $root := .root -}}
{{- $weights := $root.Values.weights -}}
{{- $fetched := (include "slidewire.fetched" . | fromJson).encoders -}}
metadata:
  labels:
    {{- include "slidewire.labels" $root | nindent 4 }}
    {{- include "slidewire.poolLabels" . | nindent 4 }}
  annotations:
    slidewire/config: {{ include "slidewire.toml" $root | sha256sum }}
    {{- if .leaves }}
    # It leaves by itself when it is idle: until then no autoscaler takes its node away.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    karpenter.sh/do-not-disrupt: "true"
    {{- end }}
    {{- with .pool.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "slidewire.fullname" $root }}-worker
  {{- include "slidewire.podSecurity" $root | nindent 2 }}
  # A worker writes a checkpoint and leaves within 120 s of SIGTERM.
  terminationGracePeriodSeconds: 130
  {{- if .leaves }}
  restartPolicy: Never
  {{- end }}
  {{- include "slidewire.placement" (dict "on" .pool) | indent 2 }}
  {{- if $fetched }}
  initContainers:
    {{- include "slidewire.fetchContainers" (merge (dict "encoders" $fetched) .) | indent 4 }}
  {{- end }}
  containers:
    - name: worker
      image: {{ include "slidewire.image" (dict "root" $root "own" .pool.image) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args:
        {{- include "slidewire.workerArgs" . | nindent 8 }}
      env:
        {{- include "slidewire.serverEnv" $root | nindent 8 }}
        # "cuda": a worker whose GPU is missing does not start on the processor unseen.
        - name: SLIDEWIRE_DEVICE
          value: {{ ternary "cuda" "cpu" (gt (.pool.gpu.count | int) 0) }}
        {{- if not .pool.gpu.count }}
        {{- include "slidewire.noGpuEnv" $root | nindent 8 }}
        {{- end }}
        # Python would count the node's cores.
        - name: SLIDEWIRE_DECODERS
          valueFrom:
            resourceFieldRef:
              containerName: worker
              resource: requests.cpu
              divisor: "1"
        {{- range $name, $value := .pool.settings }}
        - name: SLIDEWIRE_{{ upper $name }}
          value: {{ $value | toString | quote }}
        {{- end }}
      {{- include "slidewire.containerSecurity" $root | nindent 6 }}
      {{- include "slidewire.probes" $root | nindent 6 }}
      resources:
        {{- include "slidewire.workerResources" . | nindent 8 }}
      volumeMounts:
        {{- include "slidewire.serverMounts" $root | nindent 8 }}
        - name: checkpoints
          mountPath: /srv/slidewire/checkpoints
        {{- if or $weights.existingClaim $fetched }}
        - name: weights
          mountPath: /srv/slidewire/weights
          readOnly: true
        {{- end }}
  volumes:
    {{- include "slidewire.serverVolumes" (dict "root" $root "config" (include "slidewire.fullname" $root)) | nindent 4 }}
    - name: checkpoints
      persistentVolumeClaim:
        claimName: {{ default (printf "%s-checkpoints" (include "slidewire.fullname" $root)) $root.Values.checkpoints.existingClaim }}
    {{- if $weights.existingClaim }}
    - name: weights
      persistentVolumeClaim:
        claimName: {{ $weights.existingClaim }}
        readOnly: {{ empty $fetched }}
    {{- else if $fetched }}
    - name: weights
      emptyDir:
        sizeLimit: {{ $weights.sizeLimit }}
    {{- end }}
{{- end -}}
