# What differs from one installation to the next. Only `project`, `region` and `healthcare_location` have no default.

variable "project" {
  description = "The project's id. Make one of its own for this: audit logs and quotas are a project's."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: the id, not the name or the number, for example \"hospital-slides\"."
  }
}

variable "region" {
  description = "Where cluster, ledger and bucket are. Choose one with the GPUs that you want."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]{1,2}$", var.region))
    error_message = "region: a region, not a zone, for example \"europe-west4\" or \"us-central1\"."
  }
}

variable "healthcare_location" {
  description = "Where slides are kept. The same region costs nothing to read from; patients' data may have to stay in a country."
  type        = string

  validation {
    condition     = can(regex("^([a-z]+-[a-z]+[0-9]{1,2}|us|eu)$", var.healthcare_location))
    error_message = "healthcare_location: a region that the Healthcare API has, for example \"europe-west4\", or \"us\"."
  }
}

variable "name" {
  description = "What everything is called after."
  type        = string
  default     = "slidewire"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,16}[a-z0-9]$", var.name))
    error_message = "name: 4 to 18 lower-case letters, digits and hyphens, for example \"slidewire\"."
  }
}

variable "labels" {
  description = "Labels of everything that can have some, for the bill. They are no place for patients' data."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels: lower-case letters, digits, _ and -, for example { department = \"pathology\" }."
  }
}

variable "dicom_store" {
  description = "The DICOM store's name."
  type        = string
  default     = "slides"

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,256}$", var.dicom_store))
    error_message = "dicom_store: letters, digits, _ and -, for example \"slides\"."
  }
}

variable "notifications" {
  description = "Whether the DICOM store tells a Pub/Sub topic of every instance."
  type        = bool
  default     = false
}

variable "bucket" {
  description = "The name of the bucket for tables; the project's and `name` unless given."
  type        = string
  default     = null

  validation {
    condition     = var.bucket == null || can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.bucket))
    error_message = "bucket: a name without gs://, for example \"hospital-slides-results\". No patients' data: it is in every URL."
  }
}

variable "access_log_bucket" {
  description = "A bucket that keeps logs of who touched the results, besides the audit logs."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null || can(regex("^[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "access_log_bucket: a name without gs://, for example \"hospital-access-logs\"."
  }
}

variable "kms_key" {
  description = "A Cloud KMS key of your own for all that is stored. Without one Google's keys are used."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key: the whole name, for example \"projects/keys/locations/europe-west4/keyRings/slides/cryptoKeys/slides\"."
  }

  validation {
    condition     = var.kms_key == null || (var.healthcare_location == var.region && can(regex("/locations/${var.region}/", var.kms_key)))
    error_message = "kms_key: a key serves one place, so healthcare_location, region and the key's own are one, for example \"europe-west4\"."
  }
}

variable "ranges" {
  description = "Private addresses: of nodes, pods and services. They must not be the hospital's, if the networks are ever joined."
  type = object({
    nodes    = optional(string, "10.64.0.0/20")
    pods     = optional(string, "10.68.0.0/14")
    services = optional(string, "10.72.0.0/20")
  })
  default = {}

  validation {
    condition     = alltrue([for range in values(var.ranges) : can(cidrhost(range, 0))])
    error_message = "ranges: networks in CIDR form, for example { nodes = \"10.64.0.0/20\" }."
  }
}

variable "outbound" {
  description = "Whether nodes reach addresses outside Google: a PACS in the hospital, a webhook, a model hub."
  type        = bool
  default     = true
}

variable "control_plane_by_name" {
  description = "Whether kubectl reaches the cluster from outside the network, by a name that asks for IAM."
  type        = bool
  default     = true
}

variable "control_plane_networks" {
  description = "Networks inside from which kubectl may come, by a name for each."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for range in values(var.control_plane_networks) : can(cidrhost(range, 0)) && range != "0.0.0.0/0"])
    error_message = "control_plane_networks: networks in CIDR form and not the whole world, for example { office = \"10.1.0.0/16\" }."
  }
}

variable "release_channel" {
  description = "How soon the cluster gets new versions of Kubernetes."
  type        = string
  default     = "REGULAR"

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE"], var.release_channel)
    error_message = "release_channel: RAPID, REGULAR or STABLE, for example \"REGULAR\"."
  }
}

variable "ledger" {
  description = "The database: its machine, whether a second one stands by in another zone, and its disk to begin with, in GB."
  type = object({
    tier             = optional(string, "db-custom-2-8192")
    highly_available = optional(bool, true)
    disk_gb          = optional(number, 20)
  })
  default = {}

  validation {
    condition     = can(regex("^db-custom-[0-9]+-[0-9]+$", var.ledger.tier)) && var.ledger.disk_gb >= 10
    error_message = "ledger: a tier of CPUs and MB and at least 10 GB, for example { tier = \"db-custom-2-8192\", disk_gb = 20 }."
  }
}

variable "system_pool" {
  description = "The machines for watch, the migrations and the cluster's own parts; min and max are of all zones together."
  type = object({
    machine_type = optional(string, "e2-standard-4")
    min          = optional(number, 2)
    max          = optional(number, 4)
  })
  default = {}

  validation {
    condition     = var.system_pool.min >= 1 && var.system_pool.max >= var.system_pool.min
    error_message = "system_pool: at least one machine, and max not under min, for example { min = 2, max = 4 }."
  }
}

variable "gpu_pools" {
  description = "Machines with GPUs: one worker for each GPU. How many of which: docs/costs.md. min and max are of all zones."
  type = map(object({
    machine_type = string
    accelerator  = string
    count        = optional(number, 1)
    min          = optional(number, 0)
    max          = number
    spot         = optional(bool, false)
    zones        = optional(list(string))
  }))
  default = {
    l4 = { machine_type = "g2-standard-8", accelerator = "nvidia-l4", max = 8, spot = true }
  }

  validation {
    condition     = alltrue([for name in keys(var.gpu_pools) : can(regex("^[a-z][a-z0-9-]{0,30}$", name)) && name != "system"])
    error_message = "gpu_pools: names of lower-case letters, digits and hyphens, not \"system\", for example \"l4\"."
  }

  validation {
    condition     = alltrue([for pool in values(var.gpu_pools) : can(regex("^nvidia-", pool.accelerator)) && contains([1, 2, 4, 8], pool.count)])
    error_message = "gpu_pools: an accelerator by Google's name and 1, 2, 4 or 8 of them a machine, for example \"nvidia-l4\"."
  }

  validation {
    condition     = alltrue([for pool in values(var.gpu_pools) : pool.min >= 0 && pool.max >= pool.min && pool.max >= 1])
    error_message = "gpu_pools: max at least 1 and not under min, for example { min = 0, max = 8 }."
  }
}

variable "secrets" {
  description = "Which secrets there are, and which of `worker` and `watch` may read each."
  type        = map(list(string))
  default = {
    ledger-url  = ["worker", "watch"]
    webhook-key = ["worker", "watch"]
    hub-token   = ["worker"]
  }

  validation {
    condition     = alltrue([for name in keys(var.secrets) : can(regex("^[a-z][a-z0-9-]{0,62}$", name))])
    error_message = "secrets: names of lower-case letters, digits and hyphens, for example \"ledger-url\". Only names: no secret goes here."
  }

  validation {
    condition     = alltrue([for account in flatten(values(var.secrets)) : contains(["worker", "watch"], account)])
    error_message = "secrets: who reads one is worker or watch, for example { ledger-url = [\"worker\", \"watch\"] }."
  }
}

variable "kubernetes" {
  description = "The namespace, and the Kubernetes accounts of worker and watch: what the Helm chart calls them."
  type = object({
    namespace = optional(string, "slidewire")
    worker    = optional(string, "slidewire-worker")
    watch     = optional(string, "slidewire-watch")
  })
  default = {}

  validation {
    condition     = alltrue([for name in values(var.kubernetes) : can(regex("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", name))])
    error_message = "kubernetes: names as Kubernetes has them, for example { namespace = \"slidewire\" }."
  }
}

variable "audited" {
  description = "Services of which reading is logged, too."
  type        = list(string)
  default     = ["healthcare.googleapis.com", "storage.googleapis.com", "secretmanager.googleapis.com", "cloudkms.googleapis.com"]

  validation {
    condition     = contains(var.audited, "healthcare.googleapis.com") && alltrue([for name in var.audited : can(regex("^[a-z]+\\.googleapis\\.com$", name))])
    error_message = "audited: services by name, the Healthcare API among them, for example [\"healthcare.googleapis.com\"]."
  }
}

variable "deletion_protection" {
  description = "Whether cluster, ledger and secrets refuse to be destroyed. The DICOM store and the bucket always do."
  type        = bool
  default     = true
}
