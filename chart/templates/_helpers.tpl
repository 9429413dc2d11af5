{{- define "weft.labels" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "weft.selector" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weft.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* An empty AppArmor profile would be refused: what is not set is not there. */}}
{{- define "weft.podSecurityContext" -}}
{{- range $part, $value := .Values.podSecurityContext }}
{{- with $value }}
{{ $part }}: {{- toYaml $value | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Probes come from the node itself, to the pod's address unless they are told another. */}}
{{- define "weft.probe" -}}
path: {{ .path }}
port: metrics
{{- if regexMatch "^(127[.]|\\[::1\\])" .address }}
host: {{ trimAll "[]" .address | quote }}
{{- end }}
{{- end }}

{{- define "weft.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{- define "weft.cleanup" -}}
image: {{ include "weft.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args:
  - cleanup
  - --cni-bin-dir=/host/cni/bin
  - --cni-conf-dir=/host/cni/net.d
  {{- if .root.Values.cleanup.withPods }}
  - --with-pods
  {{- end }}
  {{- range .flags }}
  - {{ . }}
  {{- end }}
resources: {{- toYaml .root.Values.agent.resources | nindent 2 }}
securityContext:
  privileged: false
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsUser: 0
  capabilities:
    drop: [ALL]
    # Routes, links, nftables.
    add: [NET_ADMIN]
volumeMounts:
  - name: run
    mountPath: /run/weft
  - name: state
    mountPath: /var/lib/weft
  - name: cni-bin
    mountPath: /host/cni/bin
  - name: cni-conf
    mountPath: /host/cni/net.d
{{- end }}
