{{/* Names, labels and selectors are those of the Go operator's chart: selectors never change. */}}

{{- define "multinic-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "multinic-operator.fullname" -}}
{{- $own := printf "%s-%s" .Release.Name (.Values.nameOverride | default .Chart.Name) }}
{{- .Values.fullnameOverride | default $own | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "multinic-operator.account" -}}
{{- .Values.serviceAccount.name | default (include "multinic-operator.fullname" .) }}
{{- end }}

{{- define "multinic-operator.secret" -}}
{{- $own := printf "%s-secret" (include "multinic-operator.fullname" .) }}
{{- .Values.operatorSecret.existingSecret | default $own }}
{{- end }}

{{- define "multinic-operator.claim" -}}
{{- $own := printf "%s-inventory" (include "multinic-operator.fullname" .) }}
{{- .Values.persistence.existingClaim | default $own }}
{{- end }}

{{- define "multinic-operator.selector" -}}
control-plane: controller-manager
app.kubernetes.io/name: {{ include "multinic-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "multinic-operator.labels" -}}
app.kubernetes.io/name: {{ include "multinic-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Name, namespace and labels of an object whose name is the release's and a suffix. */}}
{{- define "multinic-operator.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "multinic-operator.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "multinic-operator.labels" $root | nindent 2 }}
{{- end }}

{{/* The same for an object without a namespace. */}}
{{- define "multinic-operator.clusterMetadata" -}}
{{- $root := index . 0 -}}
name: {{ include "multinic-operator.fullname" $root }}{{ index . 1 }}
labels:
  {{- include "multinic-operator.labels" $root | nindent 2 }}
{{- end }}

{{- define "multinic-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "multinic-operator.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
