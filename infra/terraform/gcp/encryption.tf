# A key of your own: the accounts with which Google runs its services may use it. It has to be where the data is.

locals {
  key_agents = {
    bucket     = data.google_storage_project_service_account.this.email_address
    cluster    = "service-${local.number}@container-engine-robot.iam.gserviceaccount.com"
    claims     = "service-${local.number}@cloud-filer.iam.gserviceaccount.com"
    disks      = "service-${local.number}@compute-system.iam.gserviceaccount.com"
    healthcare = local.healthcare_agent
    ledger     = "service-${local.number}@gcp-sa-cloud-sql.iam.gserviceaccount.com"
    messages   = "service-${local.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    registry   = "service-${local.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    secrets    = "service-${local.number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
  }
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = var.kms_key == null ? {} : local.key_agents

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value}"
}
