# Google's APIs by four private addresses: what network policies can name, and what is reached without a way out.

locals {
  # private.googleapis.com, https://cloud.google.com/vpc/docs/configure-private-google-access
  google_range     = "199.36.153.8/30"
  google_addresses = [for host in range(4) : cidrhost(local.google_range, host)]

  # Zone, and the name in it that has the addresses; all others are that one.
  google_zones = {
    "googleapis.com." = "private.googleapis.com."
    "pkg.dev."        = "pkg.dev."
  }
}

resource "google_dns_managed_zone" "google" {
  for_each = local.google_zones

  name        = "${var.name}-${replace(trimsuffix(each.key, "."), ".", "-")}"
  dns_name    = each.key
  description = "Google's APIs, privately"
  visibility  = "private"

  private_visibility_config {
    networks {
      network_url = google_compute_network.this.id
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_dns_record_set" "addresses" {
  for_each = local.google_zones

  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = each.value
  type         = "A"
  ttl          = 300
  rrdatas      = local.google_addresses
}

resource "google_dns_record_set" "others" {
  for_each = local.google_zones

  managed_zone = google_dns_managed_zone.google[each.key].name
  name         = "*.${each.key}"
  type         = "CNAME"
  ttl          = 300
  rrdatas      = [each.value]
}
