# The DICOM store: where slides come from and annotations go.

resource "google_healthcare_dataset" "this" {
  name      = var.name
  location  = var.healthcare_location
  time_zone = "UTC"

  dynamic "encryption_spec" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      kms_key_name = encryption_spec.value
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_healthcare_dicom_store" "this" {
  name    = var.dicom_store
  dataset = google_healthcare_dataset.this.id

  dynamic "notification_config" {
    for_each = google_pubsub_topic.stored

    content {
      pubsub_topic = notification_config.value.id
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_pubsub_topic_iam_member.stored]
}

# Slidewire does not listen to it: it asks by QIDO. It is there for what else wants to know.
resource "google_pubsub_topic" "stored" {
  count = var.notifications ? 1 : 0

  name         = "${var.name}-stored"
  kms_key_name = var.kms_key

  message_retention_duration = "604800s"

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_pubsub_topic_iam_member" "stored" {
  count = var.notifications ? 1 : 0

  topic  = google_pubsub_topic.stored[0].name
  role   = "roles/pubsub.publisher"
  member = "serviceAccount:${local.healthcare_agent}"
}
