{{- define "weft.fullname" -}}
{{ .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{- define "weft.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (printf "%s-agent" (include "weft.fullname" .)) }}
{{- end }}

{{/* Of an object: what is its own counts more than what all have. Nothing of it may stand in a pod: a chart that differs in
     its version only must not replace agents. */}}
{{- define "weft.labels" -}}
{{- include "weft.labelsWith" (list . dict) }}
{{- end }}

{{- define "weft.labelsWith" -}}
{{- $root := index . 0 }}
{{- $own := include "weft.selector" $root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") }}
{{- mergeOverwrite dict $root.Values.commonLabels (index . 1) $own | toYaml }}
{{- end }}

{{/* What DaemonSets select by, which cannot be changed. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "weft.podLabels" -}}
{{- $root := index . 0 }}
{{- $own := include "weft.selector" $root | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" (index . 1) }}
{{- mergeOverwrite dict $root.Values.commonLabels $root.Values.podLabels $own | toYaml }}
{{- end }}

{{/* A registry is what looks like a host before the first slash. */}}
{{- define "weft.image" -}}
{{- $repository := .Values.image.repository }}
{{- with .Values.global.imageRegistry }}
{{- $path := regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $repository "" }}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $path }}
{{- end }}
{{- $tag := .Values.image.tag | default (ternary "" .Chart.AppVersion (not (empty .Values.image.digest))) }}
{{- $repository }}{{ with $tag }}:{{ . }}{{ end }}{{ with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "weft.imagePullSecrets" -}}
{{- with concat .Values.image.pullSecrets .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* An empty AppArmor profile would be refused: what is not set is not there. */}}
{{- define "weft.podSecurityContext" -}}
{{- range $part, $value := .Values.podSecurityContext }}
{{- with $value }}
{{ $part }}: {{- toYaml $value | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the pods of agents and of the cleanup have in common, as far as values say it. */}}
{{- define "weft.placement" -}}
priorityClassName: {{ .Values.priorityClassName }}
{{- with .Values.hostAliases }}
hostAliases: {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector: {{- toYaml .Values.nodeSelector | nindent 2 }}
tolerations: {{- toYaml .Values.tolerations | nindent 2 }}
affinity: {{- toYaml .Values.affinity | nindent 2 }}
{{- include "weft.imagePullSecrets" . }}
securityContext: {{- include "weft.podSecurityContext" . | trim | nindent 2 }}
{{- end }}

{{- define "weft.daemonSetMetadata" -}}
namespace: {{ .Release.Namespace }}
labels: {{- include "weft.labelsWith" (list . .Values.daemonSet.labels) | nindent 2 }}
{{- with .Values.daemonSet.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "weft.args" -}}
- run
- --datastore=kubernetes
- --proc-sys-net=/host/proc/sys/net
- --cni-conf-dir=/host/cni/net.d
- --metrics-address={{ .Values.agent.metricsAddress }}:{{ .Values.agent.metricsPort }}
{{- with .Values.agent.mtu }}
- --mtu={{ int . }}
{{- end }}
{{- if .Values.operators.enabled }}
- --operators-address={{ .Values.operators.address }}:{{ .Values.operators.port }}
- --operators-account={{ include "weft.fullname" . }}-operator
{{- end }}
{{- with .Values.agent.startupTaint }}
- --startup-taint={{ . }}
{{- end }}
{{- end }}

{{- define "weft.env" -}}
- name: WEFT_NODE
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
- name: WEFT_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: HOST_IP
  valueFrom:
    fieldRef:
      fieldPath: status.hostIP
- name: WEFT_LOG
  value: {{ .Values.agent.log | quote }}
- name: WEFT_LOG_FORMAT
  value: {{ .Values.agent.logFormat }}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* The variable of a flag of `weft-agent run`. */}}
{{- define "weft.variable" -}}
WEFT_{{ . | trimPrefix "--" | splitList "=" | first | replace "-" "_" | upper }}
{{- end }}

{{- define "weft.isLoopback" -}}
{{- if regexMatch "^(127[.]|\\[::1\\])" . }}yes{{ end }}
{{- end }}

{{/* Probes come from the node itself, to the pod's address unless they are told another. */}}
{{- define "weft.probe" -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if include "weft.isLoopback" .address }}
  host: {{ trimAll "[]" .address | quote }}
  {{- end }}
{{ toYaml .times }}
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
