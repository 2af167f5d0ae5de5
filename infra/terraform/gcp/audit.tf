# Who read what: Google logs changes by itself, reading only when asked to. HIPAA, 45 CFR 164.312(b), and GDPR, article 30,
# want both of what holds patients' data. Entries of the Healthcare API name the DICOM path: they are health data, too.

resource "google_project_iam_audit_config" "this" {
  for_each = toset(var.audited)

  project = var.project
  service = each.value

  audit_log_config {
    log_type = "ADMIN_READ"
  }

  audit_log_config {
    log_type = "DATA_READ"
  }

  audit_log_config {
    log_type = "DATA_WRITE"
  }
}
