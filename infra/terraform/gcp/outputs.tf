# What the next step needs to be told: `terraform output`.

output "dicomweb_url" {
  description = "The endpoint's url in slidewire.toml."
  value       = "https://healthcare.googleapis.com/v1/${google_healthcare_dicom_store.this.id}/dicomWeb"
}

output "results" {
  description = "Where tables go: a folder of this bucket."
  value       = "gs://${google_storage_bucket.results.name}/tables"
}

output "storage_class" {
  description = "The class of the claim for checkpoints: `terraform output -raw storage_class | kubectl apply -f -`."
  value = yamlencode({
    apiVersion        = "storage.k8s.io/v1"
    kind              = "StorageClass"
    metadata          = { name = "${var.name}-shared" }
    provisioner       = "filestore.csi.storage.gke.io"
    volumeBindingMode = "WaitForFirstConsumer"
    parameters = merge(
      {
        network           = google_compute_network.this.name
        connect-mode      = "PRIVATE_SERVICE_ACCESS"
        reserved-ip-range = google_compute_global_address.services.name
        tier              = var.kms_key == null ? "standard" : "zonal"
      },
      var.kms_key == null ? {} : { instance-encryption-kms-key = var.kms_key },
    )
  })

  depends_on = [google_service_networking_connection.this]
}

output "ledger_connection" {
  description = "What the Auth Proxy is told to connect to."
  value       = google_sql_database_instance.ledger.connection_name
}

output "ledger_address" {
  description = "The ledger's private address."
  value       = google_sql_database_instance.ledger.private_ip_address
}

output "google_range" {
  description = "Google's APIs as pods see them: what network policies have to let through."
  value       = local.google_range
}

output "registry" {
  description = "Where images are pushed."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "service_accounts" {
  description = "For the annotation iam.gke.io/gcp-service-account of the chart's accounts."
  value       = { for part, account in google_service_account.pod : part => account.email }
}

output "secrets" {
  description = "The secrets that wait for a value."
  value       = { for name, secret in google_secret_manager_secret.this : name => secret.id }
}

output "credentials_command" {
  description = "What makes kubectl know the cluster."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.this.name} --location ${var.region} --project ${var.project}${var.control_plane_by_name ? " --dns-endpoint" : ""}"
}

output "topic" {
  description = "The topic that hears of every instance, if there is one."
  value       = one(google_pubsub_topic.stored[*].id)
}
