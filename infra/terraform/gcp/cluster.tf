# The cluster: private nodes, one pool of CPUs for what always runs, pools of GPUs that shrink to nothing.

resource "google_container_cluster" "this" {
  # checkov:skip=CKV_GCP_12:Dataplane V2 (ADVANCED_DATAPATH) enforces network policies by itself and refuses this block beside it
  # checkov:skip=CKV_GCP_65:Who may use kubectl is said by IAM alone; groups of Google Workspace are not everybody's
  name                = var.name
  location            = var.region
  network             = google_compute_network.this.id
  subnetwork          = google_compute_subnetwork.nodes.id
  deletion_protection = var.deletion_protection
  resource_labels     = local.labels

  networking_mode   = "VPC_NATIVE"
  datapath_provider = "ADVANCED_DATAPATH"

  # The pools below take its place. It exists for minutes, and not with the account that may edit the project.
  remove_default_node_pool = true
  initial_node_count       = 1

  node_config {
    service_account = google_service_account.nodes.email

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = true
  }

  # kubectl comes by a name that asks for IAM, from anywhere, or from inside the networks given here.
  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = var.control_plane_by_name
    }
  }

  master_authorized_networks_config {
    gcp_public_cidrs_access_enabled = false

    dynamic "cidr_blocks" {
      for_each = var.control_plane_networks

      content {
        display_name = cidr_blocks.key
        cidr_block   = cidr_blocks.value
      }
    }
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  release_channel {
    channel = var.release_channel
  }

  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T02:00:00Z"
      end_time   = "2026-01-03T08:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  enable_shielded_nodes       = true
  enable_intranode_visibility = true

  # Checkpoints: a folder that all workers see.
  addons_config {
    gcp_filestore_csi_driver_config {
      enabled = true
    }
  }

  # Signed images only, once the project's policy says so; until then it lets all pass.
  binary_authorization {
    evaluation_mode = "PROJECT_SINGLETON_POLICY_ENFORCE"
  }

  security_posture_config {
    mode               = "BASIC"
    vulnerability_mode = "VULNERABILITY_BASIC"
  }

  dynamic "database_encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      state    = "ENCRYPTED"
      key_name = database_encryption.value
    }
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS"]
  }

  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS"]

    managed_prometheus {
      enabled = true
    }
  }

  cost_management_config {
    enabled = true
  }

  lifecycle {
    ignore_changes = [node_config]
  }

  depends_on = [google_project_iam_member.nodes, google_kms_crypto_key_iam_member.agent]
}

resource "google_container_node_pool" "pool" {
  for_each = local.pools

  name           = each.key
  cluster        = google_container_cluster.this.id
  node_locations = each.value.zones

  # Of all zones together. Spot machines are taken from whichever zone has some.
  autoscaling {
    total_min_node_count = each.value.min
    total_max_node_count = each.value.max
    location_policy      = each.value.spot ? "ANY" : "BALANCED"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  # GPUs are seldom to be had twice: an upgrade takes a node away before it brings the next.
  upgrade_settings {
    max_surge       = each.value.gpu == null ? 1 : 0
    max_unavailable = each.value.gpu == null ? 0 : 1
  }

  node_config {
    machine_type      = each.value.machine_type
    spot              = each.value.spot
    image_type        = "COS_CONTAINERD"
    disk_type         = "pd-balanced"
    disk_size_gb      = 100
    boot_disk_kms_key = var.kms_key
    service_account   = google_service_account.nodes.email
    labels            = { "slidewire/pool" = each.key }

    # The account's roles are the limit.
    oauth_scopes = ["https://www.googleapis.com/auth/cloud-platform"]

    metadata = {
      disable-legacy-endpoints = "true"
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    # GKE taints these nodes with nvidia.com/gpu by itself.
    dynamic "guest_accelerator" {
      for_each = each.value.gpu == null ? [] : [each.value.gpu]

      content {
        type  = guest_accelerator.value.type
        count = guest_accelerator.value.count

        gpu_driver_installation_config {
          gpu_driver_version = "DEFAULT"
        }
      }
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}

locals {
  pools = merge(
    { system = merge(var.system_pool, { gpu = null, spot = false, zones = null }) },
    {
      for name, pool in var.gpu_pools : name => {
        machine_type = pool.machine_type
        min          = pool.min
        max          = pool.max
        spot         = pool.spot
        zones        = pool.zones
        gpu          = { type = pool.accelerator, count = pool.count }
      }
    },
  )
}
