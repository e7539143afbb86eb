# A batch job by the clock. Clients kill 30 s after the signal at most (max_kill_timeout), unless they are told otherwise.
job "xvault-web-1" {
  type = "batch"

  periodic {
    crons            = ["17 1 * * *"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "run" {
    restart {
      attempts = 5
      interval = "1h"
      delay    = "2m"
      mode     = "fail"
    }

    task "xvault" {
      driver       = "docker"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        image           = "registry.example.com/xvault:0.1.0"
        args            = ["run", "--vm", "web-1", "--retention", "daily", "--grace", "25s", "--json"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
      }

      env {
        XVAULT_POOL_URL             = "https://10.0.0.11,https://10.0.0.12"
        XVAULT_POOL_USERNAME        = "xvault"
        XVAULT_POOL_PASSWORD_FILE   = "/secrets/pool-password"
        XVAULT_POOL_CA_FILE         = "/secrets/pool-ca.pem"
        XVAULT_BUCKET               = "vm-backups"
        XVAULT_S3_ENDPOINT          = "https://s3.example.com"
        XVAULT_MEMORY_MIB           = "256"
        AWS_REGION                  = "us-east-1"
        AWS_SHARED_CREDENTIALS_FILE = "/secrets/s3-credentials"
      }

      template {
        destination = "secrets/pool-password"
        data        = "{{ with nomadVar \"nomad/jobs/xvault-web-1\" }}{{ .pool_password }}{{ end }}"
      }
      template {
        destination = "secrets/pool-ca.pem"
        data        = "{{ with nomadVar \"nomad/jobs/xvault-web-1\" }}{{ .pool_ca }}{{ end }}"
      }
      template {
        destination = "secrets/s3-credentials"
        data        = "{{ with nomadVar \"nomad/jobs/xvault-web-1\" }}{{ .s3_credentials }}{{ end }}"
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
