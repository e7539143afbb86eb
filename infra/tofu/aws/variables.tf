variable "bucket" {
  description = "Name of the bucket backups go to."
  type        = string
}

variable "prefix" {
  description = "XVAULT_PREFIX: put before every key; empty, or ending in a slash."
  type        = string
  default     = ""

  validation {
    condition     = var.prefix == "" || endswith(var.prefix, "/")
    error_message = "The prefix must be empty or end in a slash."
  }
}

variable "retention_days" {
  description = "Days for each retention class (XVAULT_RETENTION_DAYS). A class without days here is never removed."
  type        = map(number)
  default     = { daily = 14, weekly = 60, monthly = 400, yearly = 2600 }
}

variable "versioning" {
  description = "Keep what is overwritten or deleted for some days. Object lock implies it."
  type        = bool
  default     = false
}

variable "object_lock" {
  description = "Make the bucket with object lock. State goes to a second bucket then. Cannot be taken back."
  type        = bool
  default     = false
}

variable "locks" {
  description = "XVAULT_LOCK: class to mode (governance, compliance) and days. Needs object_lock."
  type = map(object({
    mode = string
    days = number
  }))
  default = {}
}

variable "kms_key_arn" {
  description = "Encrypt with this key of KMS; null: with keys of S3."
  type        = string
  default     = null
}

variable "assume_role_policy" {
  description = "Who may take the roles (JSON), by role: backup, restore, admin. A role not named is not made."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
