"""What a job needs whose workers are other machines: packages for them, and checks that they equal the launcher."""
