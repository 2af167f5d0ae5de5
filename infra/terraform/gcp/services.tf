# The project: which of Google's APIs are on, and the names of the accounts that Google itself runs them with.

data "google_project" "this" {
  project_id = var.project
}

data "google_storage_project_service_account" "this" {
  project = var.project
}

locals {
  labels = merge({ application = "slidewire" }, var.labels)

  apis = [
    "artifactregistry.googleapis.com",
    "cloudkms.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "dns.googleapis.com",
    "file.googleapis.com",
    "healthcare.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
  ]

  number           = data.google_project.this.number
  healthcare_agent = "service-${local.number}@gcp-sa-healthcare.iam.gserviceaccount.com"
}

resource "google_project_service" "api" {
  for_each = toset(local.apis)

  project = var.project
  service = each.value

  # Somebody else may use it, too.
  disable_on_destroy = false
}
