# The bucket for backups: private, encrypted, rotating. Rights are in policies.tf.

terraform {
  required_version = ">= 1.6"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

locals {
  versioned = var.versioning || var.object_lock
  buckets = merge(
    { archives = var.bucket },
    # Leases and jobs are written again and again: not where every version stays.
    var.object_lock ? { state = "${var.bucket}-state" } : {},
  )
  state_bucket = lookup(local.buckets, "state", var.bucket)

  # What lies in the bucket of state, when that is one of its own. Trial objects lie in both.
  state_folders = ["jobs/", "runs/", "idempotency/", "leases/"]
  in_bucket = {
    archives = [for rule in local.rules : rule if !var.object_lock || !contains(local.state_folders, rule.folder)]
    state    = [for rule in local.rules : rule if contains(concat(local.state_folders, ["probe/"]), rule.folder) && rule.noncurrent_days == null]
  }

  # Made by `npm run docs` from the rules `xvault lifecycle apply` would write, which finds nothing to change afterwards.
  rules = [
    for rule in jsondecode(file("${path.module}/../../lifecycle.json")).Rules : {
      id              = replace(rule.ID, "xvault:", "xvault:${var.prefix}")
      folder          = rule.Filter.Prefix
      days            = startswith(rule.ID, "xvault:class-") ? lookup(var.retention_days, trimprefix(rule.ID, "xvault:class-"), null) : try(rule.Expiration.Days, null)
      expired_markers = try(rule.Expiration.ExpiredObjectDeleteMarker, null)
      noncurrent_days = try(rule.NoncurrentVersionExpiration.NoncurrentDays, null)
      abort_days      = try(rule.AbortIncompleteMultipartUpload.DaysAfterInitiation, null)
    }
    if(!startswith(rule.ID, "xvault:class-") || contains(keys(var.retention_days), trimprefix(rule.ID, "xvault:class-")))
    && (local.versioned || !startswith(rule.ID, "xvault:versions-"))
  ]

  # Classes of your own.
  more_rules = [
    for class, days in var.retention_days : {
      id              = "xvault:${var.prefix}class-${class}"
      folder          = "backups/${class}/"
      days            = days
      expired_markers = null
      noncurrent_days = null
      abort_days      = null
    }
    if !contains([for rule in local.rules : rule.folder], "backups/${class}/")
  ]
}

resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket              = each.value
  object_lock_enabled = each.key == "archives" && var.object_lock
  tags                = var.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = aws_s3_bucket.this

  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id

  rule {
    bucket_key_enabled = var.kms_key_arn != null

    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
  }
}

resource "aws_s3_bucket_versioning" "archives" {
  count = local.versioned ? 1 : 0

  bucket = aws_s3_bucket.this["archives"].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each   = aws_s3_bucket.this
  depends_on = [aws_s3_bucket_versioning.archives]

  bucket = each.value.id

  dynamic "rule" {
    for_each = concat(local.in_bucket[each.key], each.key == "archives" ? local.more_rules : [])

    content {
      id     = rule.value.id
      status = "Enabled"

      filter {
        prefix = "${var.prefix}${rule.value.folder}"
      }

      dynamic "expiration" {
        for_each = rule.value.days == null && rule.value.expired_markers == null ? [] : [rule.value]

        content {
          days                         = expiration.value.days
          expired_object_delete_marker = expiration.value.expired_markers
        }
      }

      dynamic "noncurrent_version_expiration" {
        for_each = rule.value.noncurrent_days == null ? [] : [rule.value.noncurrent_days]

        content {
          noncurrent_days = noncurrent_version_expiration.value
        }
      }

      dynamic "abort_incomplete_multipart_upload" {
        for_each = rule.value.abort_days == null ? [] : [rule.value.abort_days]

        content {
          days_after_initiation = abort_incomplete_multipart_upload.value
        }
      }
    }
  }
}

# Only over https: whoever is on the way sees neither archives nor signatures.
data "aws_iam_policy_document" "https_only" {
  for_each = local.buckets

  statement {
    sid       = "HttpsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = ["arn:aws:s3:::${each.value}", "arn:aws:s3:::${each.value}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = aws_s3_bucket.this

  bucket = each.value.id
  policy = data.aws_iam_policy_document.https_only[each.key].json
}
