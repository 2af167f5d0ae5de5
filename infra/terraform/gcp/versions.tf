# What runs this: Terraform and its provider, pinned. The lock file that `terraform init` writes belongs into your repository.

terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = local.labels
}
