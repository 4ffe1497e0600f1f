{{/*
Templates for this chart and for charts of applications that run surgetank as a sidecar. All take the scope of this chart:
the root in its own templates, .Subcharts.surgetank in those of an application.
*/}}

{{- define "surgetank.fullname" -}}
{{- if eq .Release.Name .Chart.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "surgetank.selectorLabels" -}}
app.kubernetes.io/name: surgetank
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "surgetank.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "surgetank.selectorLabels" . }}
app.kubernetes.io/component: proxy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels of a pod that has surgetank in it: what the PodMonitor looks for. */}}
{{- define "surgetank.podLabels" -}}
surgetank/metrics: {{ include "surgetank.fullname" . }}
{{- end }}

{{- define "surgetank.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/*
The configuration. Containers of one pod share one loopback, so a sidecar's callers reach it there and nobody else does;
on its own it listens for other pods, and then asks who is calling.
*/}}
{{- define "surgetank.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if or (hasKey $config "listen") (hasKey $config "admin") }}
{{- fail "config.listen and config.admin are the chart's: `mode` decides on the first, `monitoring.enabled` on the second." }}
{{- end }}
{{- if eq .Values.mode "standalone" }}
{{- if not (or $config.auth $config.listen_without_auth) }}
{{- fail "Other pods reach a standalone surgetank, so it has to ask who is calling. Put one token a line into an entry `tokens` of a Secret, name the Secret in `secretName`, and set config.auth.tokens.file to /run/secrets/surgetank/tokens. Where something else keeps strangers out, set config.listen_without_auth to true." }}
{{- end }}
{{- $_ := set $config "listen" "0.0.0.0:4290" }}
{{- $_ := set $config "shutdown" (merge (default dict $config.shutdown) (dict "settle" "5s")) }}
{{- else }}
{{- $_ := set $config "listen" "127.0.0.1:4290" }}
{{- end }}
{{- $_ := set $config "admin" (ternary "0.0.0.0:4291" "127.0.0.1:4291" .Values.monitoring.enabled) }}
{{- toYaml $config }}
{{- end }}

{{/* The container, for both modes. */}}
{{- define "surgetank.container" -}}
name: surgetank
image: {{ include "surgetank.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: ["run", "--config", "/etc/surgetank/surgetank.yaml"]
{{- with .Values.env }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if or (eq .Values.mode "standalone") .Values.monitoring.enabled }}
ports:
  {{- if eq .Values.mode "standalone" }}
  - name: surgetank
    containerPort: 4290
  {{- end }}
  {{- if .Values.monitoring.enabled }}
  - name: surgetank-admin
    containerPort: 4291
  {{- end }}
{{- end }}
# All probes ask surgetank itself and none asks the vendor: an outage out there is no reason to restart it or to take its
# pod out of a Service. They are commands, because the operator's port is on the pod's loopback.
startupProbe:
  exec:
    command: ["/surgetank", "health"]
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 30
# Patient on purpose: a restart cuts every live stream.
livenessProbe:
  exec:
    command: ["/surgetank", "health", "--alive"]
  periodSeconds: 20
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  exec:
    command: ["/surgetank", "health"]
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
  seccompProfile:
    type: RuntimeDefault
volumeMounts:
  # Whole directories: a file mounted by subPath never sees an update.
  - name: surgetank-config
    mountPath: /etc/surgetank
    readOnly: true
  {{- if .Values.secretName }}
  - name: surgetank-keys
    mountPath: /run/secrets/surgetank
    readOnly: true
  {{- end }}
  {{- with .Values.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* For an application: an entry of initContainers. It starts before the application and stops after it. */}}
{{- define "surgetank.sidecar" -}}
- restartPolicy: Always
  {{- include "surgetank.container" . | nindent 2 }}
{{- end }}

{{/* For an application: entries of volumes. The keys are readable by the group of fsGroup; set it to 65532. */}}
{{- define "surgetank.volumes" -}}
- name: surgetank-config
  configMap:
    name: {{ include "surgetank.fullname" . }}
{{- if .Values.secretName }}
- name: surgetank-keys
  secret:
    secretName: {{ .Values.secretName }}
    defaultMode: 0440
{{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
For an application: entries of its container's env. The address is a number, because a pod's hosts file leads `localhost`
to ::1 as well, where nobody listens.
*/}}
{{- define "surgetank.env" -}}
- name: ANTHROPIC_BASE_URL
  value: http://127.0.0.1:4290
- name: OPENAI_BASE_URL
  value: http://127.0.0.1:4290/v1
{{- end }}
