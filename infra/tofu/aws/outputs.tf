output "settings" {
  description = "Environment for xvault."
  value = merge(
    {
      XVAULT_BUCKET         = var.bucket
      XVAULT_PREFIX         = var.prefix
      XVAULT_RETENTION_DAYS = jsonencode(var.retention_days)
      XVAULT_SSE            = var.kms_key_arn == null ? "AES256" : "aws:kms"
    },
    var.kms_key_arn == null ? {} : { XVAULT_SSE_KMS_KEY = var.kms_key_arn },
    var.object_lock ? { XVAULT_STATE_BUCKET = local.state_bucket } : {},
    length(var.locks) == 0 ? {} : { XVAULT_LOCK = jsonencode(var.locks) },
  )
}

output "policy_arns" {
  description = "Policies to attach, by role: backup, restore, admin."
  value       = { for role, policy in aws_iam_policy.this : role => policy.arn }
}

output "role_arns" {
  description = "Roles that were made, by name."
  value       = { for role, made in aws_iam_role.this : role => made.arn }
}
