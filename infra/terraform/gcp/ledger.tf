# The ledger: PostgreSQL with a private address. Its user is made by hand (README.md), so that no password is in the state.

resource "google_sql_database_instance" "ledger" {
  # checkov:skip=CKV_GCP_6:Encrypted connections only; client certificates would keep KEDA's and psycopg's plain ones out of a private network
  # checkov:skip=CKV_GCP_79:17 is what infra/compose.yaml runs; a newer major version is an upgrade to plan
  # checkov:skip=CKV2_GCP_13:log_duration writes a line for every statement, thousands a minute, and says nothing about who did what
  name                = "${var.name}-ledger"
  region              = var.region
  database_version    = "POSTGRES_17"
  encryption_key_name = var.kms_key
  deletion_protection = var.deletion_protection

  settings {
    edition                     = "ENTERPRISE"
    tier                        = var.ledger.tier
    availability_type           = var.ledger.highly_available ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.ledger.disk_gb
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    user_labels                 = local.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.this.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "02:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
      }
    }

    maintenance_window {
      day          = 7
      hour         = 3
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
    }

    # Who came and what was changed is logged. Statements that take long are not: they would hold parameters.
    database_flags {
      name  = "cloudsql.enable_pgaudit"
      value = "on"
    }

    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }

    database_flags {
      name  = "log_disconnections"
      value = "on"
    }

    database_flags {
      name  = "log_hostname"
      value = "on"
    }

    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }

    database_flags {
      name  = "log_min_duration_statement"
      value = "-1"
    }

    database_flags {
      name  = "log_min_error_statement"
      value = "error"
    }

    database_flags {
      name  = "log_min_messages"
      value = "error"
    }

    database_flags {
      name  = "log_statement"
      value = "ddl"
    }

    database_flags {
      name  = "log_temp_files"
      value = "0"
    }

    database_flags {
      name  = "pgaudit.log"
      value = "ddl,role"
    }
  }

  depends_on = [google_service_networking_connection.this, google_kms_crypto_key_iam_member.agent]
}

resource "google_sql_database" "ledger" {
  name     = "slidewire"
  instance = google_sql_database_instance.ledger.name

  # Left alone, not dropped, when this configuration is destroyed.
  deletion_policy = "ABANDON"
}
