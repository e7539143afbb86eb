# Three roles, each with the least it needs. The documents are those of infra/, which the tests of xvault enforce:
# backup writes and never deletes a backup, restore only reads them, admin sets the rules of rotation.

locals {
  roles = {
    backup  = file("${path.module}/../../bucket-policy.json")
    restore = file("${path.module}/../../restore-policy.json")
    admin   = file("${path.module}/../../admin-policy.json")
  }

  # The example's name becomes the bucket's, and that of the bucket of state, where there is one.
  example = "arn:aws:s3:::vm-backups"
  whole   = distinct(["arn:aws:s3:::${var.bucket}", "arn:aws:s3:::${local.state_bucket}"])
  probes  = [for arn in local.whole : "${arn}/${var.prefix}probe/*"]

  statements = {
    for role, text in local.roles : role => jsondecode(replace(replace(replace(replace(text,
      "\"${local.example}\"", join(", ", [for arn in local.whole : "\"${arn}\""])),
      "\"${local.example}/probe/*\"", join(", ", [for arn in local.probes : "\"${arn}\""])),
      "/arn:aws:s3:::vm-backups\\/(jobs|runs|idempotency|leases)\\//", "arn:aws:s3:::${local.state_bucket}/${var.prefix}$1/"),
      "${local.example}/", "arn:aws:s3:::${var.bucket}/${var.prefix}",
    )).Statement
  }

  lock_statements = var.object_lock ? [{
    Sid      = "LockBackups"
    Effect   = "Allow"
    Action   = ["s3:PutObjectRetention", "s3:GetObjectRetention"]
    Resource = ["arn:aws:s3:::${var.bucket}/${var.prefix}backups/*"]
  }] : []

  key_statements = var.kms_key_arn == null ? [] : [{
    Sid      = "UseTheKey"
    Effect   = "Allow"
    Action   = ["kms:GenerateDataKey", "kms:Decrypt"]
    Resource = [var.kms_key_arn]
  }]

  policies = {
    for role, statements in local.statements : role => jsonencode({
      Version   = "2012-10-17"
      Statement = concat(statements, role == "backup" ? local.lock_statements : [], local.key_statements)
    })
  }
}

resource "aws_iam_policy" "this" {
  for_each = local.policies

  name   = "${var.bucket}-${each.key}"
  policy = each.value
  tags   = var.tags
}

resource "aws_iam_role" "this" {
  for_each = var.assume_role_policy

  name               = "${var.bucket}-${each.key}"
  assume_role_policy = each.value
  tags               = var.tags
}

resource "aws_iam_role_policy_attachment" "this" {
  for_each = var.assume_role_policy

  role       = aws_iam_role.this[each.key].name
  policy_arn = aws_iam_policy.this[each.key].arn
}

# Who sets the rules does all the others do, too.
resource "aws_iam_role_policy_attachment" "admin_backs_up" {
  count = contains(keys(var.assume_role_policy), "admin") ? 1 : 0

  role       = aws_iam_role.this["admin"].name
  policy_arn = aws_iam_policy.this["backup"].arn
}
