# Secrets: their names and who may read them. What is in them is put there by hand (README.md) and never in the state.

resource "google_secret_manager_secret" "this" {
  for_each = var.secrets

  secret_id           = "${var.name}-${each.key}"
  deletion_protection = var.deletion_protection

  replication {
    user_managed {
      replicas {
        location = var.region

        dynamic "customer_managed_encryption" {
          for_each = var.kms_key == null ? [] : [var.kms_key]

          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

locals {
  readers = merge([
    for secret, accounts in var.secrets : { for account in accounts : "${secret}-${account}" => [secret, account] }
  ]...)
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.readers

  secret_id = google_secret_manager_secret.this[each.value[0]].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.pod[each.value[1]].member
}
