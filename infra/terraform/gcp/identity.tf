# Who may do what: one account for what works, one for what watches, one for the nodes that carry them.

locals {
  # Which of Slidewire's parts, and the Kubernetes account that it runs under.
  pods = {
    worker = var.kubernetes.worker
    watch  = var.kubernetes.watch
  }
}

resource "google_service_account" "pod" {
  for_each = local.pods

  account_id   = "${var.name}-${each.key}"
  display_name = "Slidewire: ${each.key}"

  depends_on = [google_project_service.api]
}

resource "google_service_account" "nodes" {
  account_id   = "${var.name}-nodes"
  display_name = "Slidewire: the nodes of the cluster"

  depends_on = [google_project_service.api]
}

# A pod under that Kubernetes account, in that namespace, is that account: no key is ever made.
resource "google_service_account_iam_member" "pod" {
  for_each = local.pods

  service_account_id = google_service_account.pod[each.key].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${google_container_cluster.this.workload_identity_config[0].workload_pool}[${var.kubernetes.namespace}/${each.value}]"
}

# A worker reads slides from this one store and writes annotations into it; what watches only reads.
resource "google_healthcare_dicom_store_iam_member" "worker" {
  dicom_store_id = google_healthcare_dicom_store.this.id
  role           = "roles/healthcare.dicomEditor"
  member         = google_service_account.pod["worker"].member
}

resource "google_healthcare_dicom_store_iam_member" "watch" {
  dicom_store_id = google_healthcare_dicom_store.this.id
  role           = "roles/healthcare.dicomViewer"
  member         = google_service_account.pod["watch"].member
}

# Tables: objects of this one bucket, not the bucket itself.
resource "google_storage_bucket_iam_member" "worker" {
  bucket = google_storage_bucket.results.name
  role   = "roles/storage.objectUser"
  member = google_service_account.pod["worker"].member
}

# Both come to the ledger through the Auth Proxy. The role can only be given on a project; the condition leaves one instance.
resource "google_project_iam_member" "ledger" {
  for_each = local.pods

  project = var.project
  role    = "roles/cloudsql.client"
  member  = google_service_account.pod[each.key].member

  condition {
    title      = "${var.name}-ledger-only"
    expression = "resource.type == 'sqladmin.googleapis.com/Instance' && resource.name == 'projects/${var.project}/instances/${google_sql_database_instance.ledger.name}'"
  }
}

# What the nodes themselves need: to write logs and metrics, and nothing else.
resource "google_project_iam_member" "nodes" {
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes.member
}
